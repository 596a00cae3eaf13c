DROP INDEX "idx_capsule_metrics_snapshots_team";--> statement-breakpoint
ALTER TABLE "daily_usage" ALTER COLUMN "cpu_minutes" SET DATA TYPE numeric(20, 6);--> statement-breakpoint
ALTER TABLE "daily_usage" ALTER COLUMN "cpu_minutes" SET DEFAULT '0';--> statement-breakpoint
ALTER TABLE "daily_usage" ALTER COLUMN "ram_mb_minutes" SET DATA TYPE numeric(20, 6);--> statement-breakpoint
ALTER TABLE "daily_usage" ALTER COLUMN "ram_mb_minutes" SET DEFAULT '0';--> statement-breakpoint
ALTER TABLE "capsule_metrics_snapshots" ALTER COLUMN "sampled_at" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsule_metrics_snapshots" DROP COLUMN "id";--> statement-breakpoint
ALTER TABLE "capsule_metrics_snapshots" ADD CONSTRAINT "capsule_metrics_snapshots_team_id_sampled_at_pk" PRIMARY KEY("team_id","sampled_at");--> statement-breakpoint
CREATE INDEX "idx_capsule_metrics_snapshots_sampled_at" ON "capsule_metrics_snapshots" USING btree ("sampled_at");