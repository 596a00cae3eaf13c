CREATE SEQUENCE "public"."event_positions" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
DROP INDEX "idx_events_unpublished";--> statement-breakpoint
ALTER TABLE "events" ADD COLUMN "event_id" uuid DEFAULT gen_random_uuid() NOT NULL;--> statement-breakpoint
ALTER TABLE "events" ADD COLUMN "position" bigint;--> statement-breakpoint
CREATE UNIQUE INDEX "events_event_id" ON "events" USING btree ("event_id");--> statement-breakpoint
CREATE UNIQUE INDEX "events_position" ON "events" USING btree ("position");--> statement-breakpoint
CREATE INDEX "idx_events_team_position" ON "events" USING btree ("team_id","position");--> statement-breakpoint
CREATE INDEX "idx_events_unplaced" ON "events" USING btree ("id") WHERE position is null;--> statement-breakpoint
CREATE INDEX "idx_events_unpublished" ON "events" USING btree ("position") WHERE published_at is null;