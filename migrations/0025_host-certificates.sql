ALTER TABLE "host_refresh_tokens" ADD COLUMN "used_for_key" text;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "cert_name" text DEFAULT '' NOT NULL;--> statement-breakpoint
-- Agents of the time before certificates get one under this name with their next refresh.
UPDATE "hosts" SET "cert_name" = replace(gen_random_uuid()::text, '-', '') || '.' || id::text || '.agents.wrenn.internal' WHERE "status" <> 'pending';
