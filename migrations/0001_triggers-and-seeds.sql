-- A template name of the platform means one template for everybody: no team may have one of that
-- name, whichever of the two came first. The lock makes two concurrent inserts see each other.
CREATE FUNCTION templates_guard_platform_names() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	platform constant uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('wrenn.templates.name:' || NEW.name, 0));
	IF EXISTS (
		SELECT FROM templates
		WHERE name = NEW.name AND id <> NEW.id AND (team_id = platform) <> (NEW.team_id = platform)
	) THEN
		RAISE unique_violation
			USING MESSAGE = format('template name %L is taken', NEW.name),
				TABLE = 'templates', CONSTRAINT = 'templates_platform_name';
	END IF;
	RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER templates_guard_platform_names BEFORE INSERT OR UPDATE OF name, team_id ON templates
	FOR EACH ROW EXECUTE FUNCTION templates_guard_platform_names();
--> statement-breakpoint
INSERT INTO teams (id, name, slug)
	VALUES ('00000000-0000-0000-0000-000000000000', 'Platform', 'platform');
--> statement-breakpoint
INSERT INTO templates (id, team_id, name, type, vcpus, memory_mb) VALUES
	('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'minimal-ubuntu', 'base', 1, 512),
	('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000000', 'minimal-alpine', 'base', 1, 512),
	('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000000', 'minimal-arch', 'base', 1, 512),
	('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000000', 'minimal-fedora', 'base', 1, 512),
	('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000000', 'minimal-debian', 'base', 1, 512);
