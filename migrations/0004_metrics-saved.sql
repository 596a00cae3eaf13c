ALTER TABLE "capsules" ADD COLUMN "metrics_saved_for" uuid;--> statement-breakpoint
CREATE INDEX "idx_capsules_metrics_saved" ON "capsules" USING btree ("status") WHERE metrics_saved_for is not null;