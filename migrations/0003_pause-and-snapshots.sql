CREATE TABLE "template_hosts" (
	"template_id" uuid NOT NULL,
	"host_id" uuid NOT NULL,
	CONSTRAINT "template_hosts_template_id_host_id_pk" PRIMARY KEY("template_id","host_id")
);
--> statement-breakpoint
CREATE TABLE "template_operations" (
	"template_id" uuid NOT NULL,
	"host_id" uuid NOT NULL,
	"kind" text NOT NULL,
	"operation_id" uuid NOT NULL,
	"deadline" timestamp with time zone NOT NULL,
	"team_id" uuid NOT NULL,
	"name" text NOT NULL,
	"capsule_id" uuid,
	"is_overwriting" boolean DEFAULT false NOT NULL,
	"actor" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "template_operations_template_id_host_id_pk" PRIMARY KEY("template_id","host_id"),
	CONSTRAINT "template_operations_kind" CHECK ("template_operations"."kind" in ('create', 'delete'))
);
--> statement-breakpoint
ALTER TABLE "capsules" ADD COLUMN "durable_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "capsules" ADD COLUMN "default_user" text DEFAULT 'root' NOT NULL;--> statement-breakpoint
ALTER TABLE "capsules" ADD COLUMN "default_env" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "template_hosts" ADD CONSTRAINT "template_hosts_template_id_templates_id_fk" FOREIGN KEY ("template_id") REFERENCES "public"."templates"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "template_hosts" ADD CONSTRAINT "template_hosts_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "template_operations" ADD CONSTRAINT "template_operations_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idx_template_hosts_host_id" ON "template_hosts" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "idx_template_operations_deadline" ON "template_operations" USING btree ("deadline");--> statement-breakpoint
CREATE UNIQUE INDEX "template_operations_name" ON "template_operations" USING btree ("team_id","name") WHERE kind = 'create';--> statement-breakpoint
UPDATE "capsules" SET "default_user" = "templates"."default_user", "default_env" = "templates"."default_env"
	FROM "templates" WHERE "templates"."id" = "capsules"."template_id";
