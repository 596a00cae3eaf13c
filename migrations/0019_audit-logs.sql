DROP INDEX "idx_audit_logs_team_created";--> statement-breakpoint
DROP INDEX "idx_audit_logs_team_resource";--> statement-breakpoint
ALTER TABLE "audit_logs" ADD COLUMN "ip_address" text;--> statement-breakpoint
ALTER TABLE "audit_logs" ADD COLUMN "request_id" text;--> statement-breakpoint
ALTER TABLE "audit_logs" ADD COLUMN "position" bigint;--> statement-breakpoint
CREATE UNIQUE INDEX "audit_logs_position" ON "audit_logs" USING btree ("position");--> statement-breakpoint
CREATE INDEX "idx_audit_logs_team_position" ON "audit_logs" USING btree ("team_id","position");--> statement-breakpoint
CREATE INDEX "idx_audit_logs_team_resource_position" ON "audit_logs" USING btree ("team_id","resource_type","position");--> statement-breakpoint
CREATE INDEX "idx_audit_logs_unplaced" ON "audit_logs" USING btree ("created_at") WHERE position is null;--> statement-breakpoint
ALTER TABLE "audit_logs" ADD CONSTRAINT "audit_logs_scope" CHECK ("audit_logs"."scope" in ('team', 'admin'));--> statement-breakpoint
ALTER TABLE "audit_logs" ADD CONSTRAINT "audit_logs_status" CHECK ("audit_logs"."status" in ('success', 'info', 'warning', 'error'));