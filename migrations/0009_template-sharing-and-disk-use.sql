ALTER TABLE "capsules" ADD COLUMN "disk_used_mb" integer;--> statement-breakpoint
ALTER TABLE "templates" ADD COLUMN "is_public" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "idx_templates_public" ON "templates" USING btree ("created_at" DESC NULLS LAST,"id" DESC NULLS LAST) WHERE is_public;--> statement-breakpoint
UPDATE "teams" SET "slug" = 'wrenn' WHERE "id" = '00000000-0000-0000-0000-000000000000';
