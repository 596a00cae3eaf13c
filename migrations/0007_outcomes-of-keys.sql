ALTER TABLE "capsules" ADD COLUMN "error_code" text DEFAULT '' NOT NULL;--> statement-breakpoint
UPDATE "capsules" SET "error_code" = 'agent_error' WHERE "status" = 'error';--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD COLUMN "subject_kind" text;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD COLUMN "subject_ids" uuid[];--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD COLUMN "code" text;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD COLUMN "message" text DEFAULT '' NOT NULL;--> statement-breakpoint
-- Creates, pauses and resumes, under way or ended: their capsule is known.
UPDATE "idempotency_keys" SET "subject_kind" = 'capsule', "subject_ids" = ARRAY["capsule_id"],
	"code" = CASE WHEN "status" IS NOT NULL THEN '' END;--> statement-breakpoint
-- Whatever failed.
UPDATE "idempotency_keys" SET "code" = "response"->'error'->>'code', "message" = "response"->'error'->>'message'
	WHERE "response" ? 'error';--> statement-breakpoint
-- Forks under way: their response is the ids of those that were begun.
UPDATE "idempotency_keys" SET "subject_ids" = ARRAY(SELECT jsonb_array_elements_text("response")::uuid)
	WHERE "status" IS NULL AND jsonb_typeof("response") = 'array';--> statement-breakpoint
-- Snapshots: under way their response is the template's id, afterwards it tells of the template.
UPDATE "idempotency_keys" SET "subject_kind" = 'template', "subject_ids" = ARRAY[("response" #>> '{}')::uuid]
	WHERE "status" IS NULL AND jsonb_typeof("response") = 'string';--> statement-breakpoint
UPDATE "idempotency_keys" k SET "subject_kind" = 'template', "subject_ids" = ARRAY[t."id"]
	FROM "templates" t
	WHERE k."status" = 201 AND k."response" ? 'size_bytes' AND t."team_id" = k."team_id" AND t."name" = k."response"->>'name';--> statement-breakpoint
-- What else was answered is not known by an id any more: forks by their external ones only, and snapshots
-- that are gone. Nothing is done twice; the key says so for its day.
UPDATE "idempotency_keys" SET "code" = 'conflict',
	"message" = 'idempotency-key: was used and answered; the answer is not kept any more'
	WHERE "status" = 201 AND (jsonb_typeof("response") = 'array' OR ("response" ? 'size_bytes' AND "subject_kind" = 'capsule'));--> statement-breakpoint
ALTER TABLE "idempotency_keys" ALTER COLUMN "subject_kind" SET NOT NULL;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ALTER COLUMN "subject_ids" SET NOT NULL;--> statement-breakpoint
ALTER TABLE "idempotency_keys" DROP COLUMN "capsule_id";--> statement-breakpoint
ALTER TABLE "idempotency_keys" DROP COLUMN "status";--> statement-breakpoint
ALTER TABLE "idempotency_keys" DROP COLUMN "response";--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_subject_kind" CHECK ("idempotency_keys"."subject_kind" in ('capsule', 'template'));
