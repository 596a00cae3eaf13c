ALTER TABLE "teams" ADD COLUMN "purge_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "idx_teams_purge_at" ON "teams" USING btree ("purge_at") WHERE purge_at is not null;--> statement-breakpoint
CREATE INDEX "idx_users_deleted_at" ON "users" USING btree ("deleted_at") WHERE status = 'deleted';