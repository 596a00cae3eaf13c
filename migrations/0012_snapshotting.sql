ALTER TABLE "capsules" DROP CONSTRAINT "capsules_status";--> statement-breakpoint
ALTER TABLE "capsules" ADD COLUMN "snapshotted_from" text;--> statement-breakpoint
ALTER TABLE "capsules" ADD CONSTRAINT "capsules_snapshotted_from" CHECK ("capsules"."snapshotted_from" in ('running', 'paused'));--> statement-breakpoint
ALTER TABLE "capsules" ADD CONSTRAINT "capsules_snapshotting" CHECK (("capsules"."status" = 'snapshotting') = ("capsules"."snapshotted_from" is not null));--> statement-breakpoint
ALTER TABLE "capsules" ADD CONSTRAINT "capsules_status" CHECK ("capsules"."status" in ('pending', 'starting', 'running', 'pausing', 'paused', 'snapshotting', 'resuming', 'stopping', 'stopped', 'hibernated', 'missing', 'error'));