CREATE TABLE "capsule_usage" (
	"capsule_id" uuid NOT NULL,
	"day" date NOT NULL,
	"team_id" uuid NOT NULL,
	"vcpu_sec" double precision DEFAULT 0 NOT NULL,
	"memory_mb_sec" double precision DEFAULT 0 NOT NULL,
	"paused_memory_mb_sec" double precision DEFAULT 0 NOT NULL,
	"is_summed" boolean DEFAULT false NOT NULL,
	CONSTRAINT "capsule_usage_capsule_id_day_pk" PRIMARY KEY("capsule_id","day")
);
--> statement-breakpoint
CREATE TABLE "usage_clock" (
	"name" text PRIMARY KEY NOT NULL,
	"stepped_ms" double precision DEFAULT 0 NOT NULL
);
--> statement-breakpoint
ALTER TABLE "capsules" ADD COLUMN "counted_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL;--> statement-breakpoint
CREATE INDEX "idx_capsule_usage_team_day" ON "capsule_usage" USING btree ("team_id","day");--> statement-breakpoint
CREATE INDEX "idx_capsule_usage_day" ON "capsule_usage" USING btree ("day");--> statement-breakpoint
CREATE INDEX "idx_capsule_usage_unsummed" ON "capsule_usage" USING btree ("day","team_id") WHERE not is_summed;--> statement-breakpoint
-- What has gone of today is counted as far as it is known: since each capsule's last change.
UPDATE "capsules" SET "counted_at" = greatest("last_updated", date_trunc('day', now(), 'UTC'))
	WHERE "status" NOT IN ('stopped', 'error');
--> statement-breakpoint
-- The days of UTC that a time lies in, with how much of it; of the last 400.
CREATE FUNCTION usage_days(since timestamptz, until timestamptz)
	RETURNS TABLE (day date, sec double precision) LANGUAGE sql STABLE AS $$
	SELECT midnight::date,
		extract(epoch FROM least(until, (midnight + interval '1 day') AT TIME ZONE 'UTC')
			- greatest(since, midnight AT TIME ZONE 'UTC'))::double precision
	FROM generate_series(
		date_trunc('day', greatest(since, until - interval '400 days') AT TIME ZONE 'UTC'),
		date_trunc('day', until AT TIME ZONE 'UTC'),
		interval '1 day') AS midnight
	WHERE until > since AND until > midnight AT TIME ZONE 'UTC'
$$;
--> statement-breakpoint
-- Adds what a capsule used in the state that it leaves, whoever moves it, and in whatever statement; a `counted_at`
-- of infinity asks for the same of one that stays as it is.
CREATE FUNCTION count_capsule_usage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	until constant timestamptz := clock_timestamp();
	was_at_rest constant boolean := OLD.status = 'paused' OR OLD.snapshotted_from IS NOT DISTINCT FROM 'paused';
	was_using constant boolean := NOT was_at_rest
		AND OLD.status IN ('starting', 'running', 'pausing', 'snapshotting', 'resuming');
BEGIN
	IF NEW.status = OLD.status AND NEW.snapshotted_from IS NOT DISTINCT FROM OLD.snapshotted_from
		AND NEW.counted_at <> 'infinity'
	THEN
		RETURN NEW;
	END IF;
	NEW.counted_at := until;
	IF was_using OR was_at_rest THEN
		INSERT INTO capsule_usage AS counted
			(capsule_id, day, team_id, vcpu_sec, memory_mb_sec, paused_memory_mb_sec)
		SELECT OLD.id, day, OLD.team_id,
			CASE WHEN was_using THEN OLD.vcpus * sec ELSE 0 END,
			CASE WHEN was_using THEN OLD.memory_mb * sec ELSE 0 END,
			CASE WHEN was_at_rest THEN OLD.memory_mb * sec ELSE 0 END
		FROM usage_days(OLD.counted_at, until)
		ON CONFLICT (capsule_id, day) DO UPDATE SET
			vcpu_sec = counted.vcpu_sec + excluded.vcpu_sec,
			memory_mb_sec = counted.memory_mb_sec + excluded.memory_mb_sec,
			paused_memory_mb_sec = counted.paused_memory_mb_sec + excluded.paused_memory_mb_sec,
			is_summed = false;
	END IF;
	RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER count_capsule_usage BEFORE UPDATE OF status, snapshotted_from, counted_at ON capsules
	FOR EACH ROW EXECUTE FUNCTION count_capsule_usage();
