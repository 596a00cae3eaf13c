CREATE TABLE "admin_permissions" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"permission" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "admin_permissions_user_permission" UNIQUE("user_id","permission")
);
--> statement-breakpoint
CREATE TABLE "channels" (
	"id" uuid PRIMARY KEY NOT NULL,
	"team_id" uuid NOT NULL,
	"name" text NOT NULL,
	"provider" text NOT NULL,
	"config" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"event_types" text[] DEFAULT '{}' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "channels_team_name" UNIQUE("team_id","name")
);
--> statement-breakpoint
CREATE TABLE "daily_usage" (
	"team_id" uuid NOT NULL,
	"day" date NOT NULL,
	"cpu_minutes" numeric(18, 4) DEFAULT '0' NOT NULL,
	"ram_mb_minutes" numeric(18, 4) DEFAULT '0' NOT NULL,
	CONSTRAINT "daily_usage_team_id_day_pk" PRIMARY KEY("team_id","day")
);
--> statement-breakpoint
CREATE TABLE "oauth_providers" (
	"provider" text NOT NULL,
	"provider_id" text NOT NULL,
	"user_id" uuid NOT NULL,
	"email" text DEFAULT '' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "oauth_providers_provider_provider_id_pk" PRIMARY KEY("provider","provider_id")
);
--> statement-breakpoint
CREATE TABLE "team_api_keys" (
	"id" uuid PRIMARY KEY NOT NULL,
	"team_id" uuid NOT NULL,
	"name" text NOT NULL,
	"key_hash" text NOT NULL,
	"key_prefix" text NOT NULL,
	"created_by" uuid,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_used" timestamp with time zone,
	CONSTRAINT "team_api_keys_key_hash_unique" UNIQUE("key_hash")
);
--> statement-breakpoint
CREATE TABLE "teams" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"slug" text NOT NULL,
	"is_byoc" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone,
	CONSTRAINT "teams_slug_unique" UNIQUE("slug")
);
--> statement-breakpoint
CREATE TABLE "users" (
	"id" uuid PRIMARY KEY NOT NULL,
	"email" text NOT NULL,
	"password_hash" text,
	"name" text DEFAULT '' NOT NULL,
	"is_admin" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone,
	"status" text DEFAULT 'active' NOT NULL,
	CONSTRAINT "users_email_unique" UNIQUE("email"),
	CONSTRAINT "users_status" CHECK ("users"."status" in ('inactive', 'active', 'disabled', 'deleted'))
);
--> statement-breakpoint
CREATE TABLE "users_teams" (
	"team_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"is_default" boolean DEFAULT false NOT NULL,
	"role" text DEFAULT 'member' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "users_teams_team_id_user_id_pk" PRIMARY KEY("team_id","user_id"),
	CONSTRAINT "users_teams_role" CHECK ("users_teams"."role" in ('owner', 'admin', 'member'))
);
--> statement-breakpoint
CREATE TABLE "host_refresh_tokens" (
	"id" uuid PRIMARY KEY NOT NULL,
	"host_id" uuid NOT NULL,
	"token_hash" text NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"revoked_at" timestamp with time zone,
	CONSTRAINT "host_refresh_tokens_token_hash_unique" UNIQUE("token_hash")
);
--> statement-breakpoint
CREATE TABLE "host_tags" (
	"host_id" uuid NOT NULL,
	"tag" text NOT NULL,
	CONSTRAINT "host_tags_host_id_tag_pk" PRIMARY KEY("host_id","tag")
);
--> statement-breakpoint
CREATE TABLE "host_tokens" (
	"id" uuid PRIMARY KEY NOT NULL,
	"host_id" uuid NOT NULL,
	"created_by" uuid,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"used_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "hosts" (
	"id" uuid PRIMARY KEY NOT NULL,
	"type" text DEFAULT 'regular' NOT NULL,
	"team_id" uuid,
	"provider" text DEFAULT '' NOT NULL,
	"availability_zone" text DEFAULT '' NOT NULL,
	"arch" text DEFAULT '' NOT NULL,
	"cpu_cores" integer DEFAULT 0 NOT NULL,
	"memory_mb" integer DEFAULT 0 NOT NULL,
	"disk_gb" integer DEFAULT 0 NOT NULL,
	"address" text DEFAULT '' NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"last_heartbeat_at" timestamp with time zone,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_by" uuid,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"cert_fingerprint" text DEFAULT '' NOT NULL,
	"cert_expires_at" timestamp with time zone,
	CONSTRAINT "hosts_type" CHECK ("hosts"."type" in ('regular', 'byoc')),
	CONSTRAINT "hosts_status" CHECK ("hosts"."status" in ('pending', 'online', 'unreachable', 'offline', 'draining'))
);
--> statement-breakpoint
CREATE TABLE "audit_logs" (
	"id" uuid PRIMARY KEY NOT NULL,
	"team_id" uuid NOT NULL,
	"actor_type" text NOT NULL,
	"actor_id" text,
	"actor_name" text DEFAULT '' NOT NULL,
	"resource_type" text NOT NULL,
	"resource_id" text,
	"action" text NOT NULL,
	"scope" text DEFAULT 'team' NOT NULL,
	"status" text DEFAULT 'success' NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "capsule_metric_points" (
	"capsule_id" uuid NOT NULL,
	"tier" text NOT NULL,
	"ts" bigint NOT NULL,
	"cpu_pct" double precision DEFAULT 0 NOT NULL,
	"mem_bytes" bigint DEFAULT 0 NOT NULL,
	"disk_bytes" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "capsule_metric_points_capsule_id_tier_ts_pk" PRIMARY KEY("capsule_id","tier","ts"),
	CONSTRAINT "capsule_metric_points_tier" CHECK ("capsule_metric_points"."tier" in ('10m', '2h', '24h'))
);
--> statement-breakpoint
CREATE TABLE "capsule_metrics_snapshots" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"team_id" uuid NOT NULL,
	"sampled_at" timestamp with time zone DEFAULT now() NOT NULL,
	"running_count" integer DEFAULT 0 NOT NULL,
	"vcpus_reserved" integer DEFAULT 0 NOT NULL,
	"memory_mb_reserved" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "capsules" (
	"id" uuid PRIMARY KEY NOT NULL,
	"team_id" uuid NOT NULL,
	"host_id" uuid NOT NULL,
	"template" text DEFAULT 'minimal-ubuntu' NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"vcpus" integer DEFAULT 1 NOT NULL,
	"memory_mb" integer DEFAULT 512 NOT NULL,
	"timeout_sec" integer DEFAULT 300 NOT NULL,
	"disk_size_mb" integer DEFAULT 5120 NOT NULL,
	"guest_ip" text DEFAULT '' NOT NULL,
	"host_ip" text DEFAULT '' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp with time zone,
	"last_active_at" timestamp with time zone,
	"last_updated" timestamp with time zone DEFAULT now() NOT NULL,
	"template_id" uuid,
	"template_team_id" uuid,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"operation_id" uuid NOT NULL,
	"reason" text DEFAULT '' NOT NULL,
	"state_deadline" timestamp with time zone,
	CONSTRAINT "capsules_status" CHECK ("capsules"."status" in ('pending', 'starting', 'running', 'pausing', 'paused', 'resuming', 'stopping', 'stopped', 'hibernated', 'missing', 'error')),
	CONSTRAINT "capsules_sizes" CHECK (vcpus > 0 and memory_mb > 0 and disk_size_mb > 0),
	CONSTRAINT "capsules_timeout" CHECK ("capsules"."timeout_sec" >= 0)
);
--> statement-breakpoint
CREATE TABLE "events" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"team_id" uuid NOT NULL,
	"type" text NOT NULL,
	"outcome" text NOT NULL,
	"actor" jsonb NOT NULL,
	"resource" jsonb NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"error" text DEFAULT '' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"published_at" timestamp with time zone,
	CONSTRAINT "events_outcome" CHECK ("events"."outcome" in ('success', 'error', ''))
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"team_id" uuid NOT NULL,
	"key" text NOT NULL,
	"request_hash" text NOT NULL,
	"capsule_id" uuid NOT NULL,
	"status" integer,
	"response" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "idempotency_keys_team_id_key_pk" PRIMARY KEY("team_id","key")
);
--> statement-breakpoint
CREATE TABLE "template_builds" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"base_template" text NOT NULL,
	"recipe" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"healthcheck" text DEFAULT '' NOT NULL,
	"vcpus" integer DEFAULT 1 NOT NULL,
	"memory_mb" integer DEFAULT 512 NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"current_step" integer DEFAULT 0 NOT NULL,
	"total_steps" integer DEFAULT 0 NOT NULL,
	"logs" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"error" text DEFAULT '' NOT NULL,
	"capsule_id" uuid,
	"host_id" uuid,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp with time zone,
	"completed_at" timestamp with time zone,
	"template_id" uuid,
	"team_id" uuid,
	"skip_pre_post" boolean DEFAULT false NOT NULL,
	"default_user" text DEFAULT 'root' NOT NULL,
	"default_env" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	CONSTRAINT "template_builds_status" CHECK ("template_builds"."status" in ('pending', 'running', 'success', 'failed', 'cancelled'))
);
--> statement-breakpoint
CREATE TABLE "templates" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"name" text NOT NULL,
	"type" text DEFAULT 'base' NOT NULL,
	"vcpus" integer DEFAULT 1 NOT NULL,
	"memory_mb" integer DEFAULT 512 NOT NULL,
	"size_bytes" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"team_id" uuid NOT NULL,
	"default_user" text DEFAULT 'root' NOT NULL,
	"default_env" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	CONSTRAINT "templates_team_name" UNIQUE("team_id","name"),
	CONSTRAINT "templates_type" CHECK ("templates"."type" in ('base', 'snapshot'))
);
--> statement-breakpoint
ALTER TABLE "admin_permissions" ADD CONSTRAINT "admin_permissions_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "channels" ADD CONSTRAINT "channels_team_id_teams_id_fk" FOREIGN KEY ("team_id") REFERENCES "public"."teams"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "oauth_providers" ADD CONSTRAINT "oauth_providers_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "team_api_keys" ADD CONSTRAINT "team_api_keys_team_id_teams_id_fk" FOREIGN KEY ("team_id") REFERENCES "public"."teams"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "team_api_keys" ADD CONSTRAINT "team_api_keys_created_by_users_id_fk" FOREIGN KEY ("created_by") REFERENCES "public"."users"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "users_teams" ADD CONSTRAINT "users_teams_team_id_teams_id_fk" FOREIGN KEY ("team_id") REFERENCES "public"."teams"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "users_teams" ADD CONSTRAINT "users_teams_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "host_refresh_tokens" ADD CONSTRAINT "host_refresh_tokens_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "host_tags" ADD CONSTRAINT "host_tags_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "host_tokens" ADD CONSTRAINT "host_tokens_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "host_tokens" ADD CONSTRAINT "host_tokens_created_by_users_id_fk" FOREIGN KEY ("created_by") REFERENCES "public"."users"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "hosts" ADD CONSTRAINT "hosts_team_id_teams_id_fk" FOREIGN KEY ("team_id") REFERENCES "public"."teams"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "hosts" ADD CONSTRAINT "hosts_created_by_users_id_fk" FOREIGN KEY ("created_by") REFERENCES "public"."users"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "capsules" ADD CONSTRAINT "capsules_team_id_teams_id_fk" FOREIGN KEY ("team_id") REFERENCES "public"."teams"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_team_id_teams_id_fk" FOREIGN KEY ("team_id") REFERENCES "public"."teams"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idx_admin_permissions_user_id" ON "admin_permissions" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "idx_channels_team_id" ON "channels" USING btree ("team_id");--> statement-breakpoint
CREATE INDEX "idx_oauth_providers_user_id" ON "oauth_providers" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "idx_team_api_keys_team_id" ON "team_api_keys" USING btree ("team_id");--> statement-breakpoint
CREATE INDEX "idx_teams_slug" ON "teams" USING btree ("slug");--> statement-breakpoint
CREATE INDEX "idx_users_teams_user_id" ON "users_teams" USING btree ("user_id");--> statement-breakpoint
CREATE UNIQUE INDEX "users_teams_one_owner" ON "users_teams" USING btree ("team_id") WHERE role = 'owner';--> statement-breakpoint
CREATE UNIQUE INDEX "users_teams_one_default" ON "users_teams" USING btree ("user_id") WHERE is_default;--> statement-breakpoint
CREATE INDEX "idx_host_refresh_tokens_host_id" ON "host_refresh_tokens" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "idx_host_tags_tag" ON "host_tags" USING btree ("tag");--> statement-breakpoint
CREATE INDEX "idx_host_tokens_host_id" ON "host_tokens" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "idx_hosts_type" ON "hosts" USING btree ("type");--> statement-breakpoint
CREATE INDEX "idx_hosts_team_id" ON "hosts" USING btree ("team_id");--> statement-breakpoint
CREATE INDEX "idx_hosts_status" ON "hosts" USING btree ("status");--> statement-breakpoint
CREATE INDEX "idx_audit_logs_team_created" ON "audit_logs" USING btree ("team_id","created_at" DESC NULLS LAST,"id" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "idx_audit_logs_team_resource" ON "audit_logs" USING btree ("team_id","resource_type","created_at" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "idx_capsule_metrics_snapshots_team" ON "capsule_metrics_snapshots" USING btree ("team_id","sampled_at" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "idx_capsules_status" ON "capsules" USING btree ("status");--> statement-breakpoint
CREATE INDEX "idx_capsules_host_status" ON "capsules" USING btree ("host_id","status");--> statement-breakpoint
CREATE INDEX "idx_capsules_team_id" ON "capsules" USING btree ("team_id");--> statement-breakpoint
CREATE INDEX "idx_capsules_team_live" ON "capsules" USING btree ("team_id","created_at" DESC NULLS LAST,"id" DESC NULLS LAST) WHERE status not in ('stopped', 'error');--> statement-breakpoint
CREATE INDEX "idx_events_unpublished" ON "events" USING btree ("id") WHERE published_at is null;--> statement-breakpoint
CREATE INDEX "idx_idempotency_keys_created_at" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "idx_templates_team_id" ON "templates" USING btree ("team_id");