ALTER TABLE "capsule_usage" ADD COLUMN "sent_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "capsules" ADD COLUMN "sent_bytes" bigint DEFAULT 0 NOT NULL;