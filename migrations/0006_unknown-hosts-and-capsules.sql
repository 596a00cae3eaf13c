CREATE TABLE "deleted_hosts" (
	"id" uuid PRIMARY KEY NOT NULL,
	"deleted_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "unknown_capsules" (
	"host_id" uuid NOT NULL,
	"capsule_id" uuid NOT NULL,
	"first_seen_at" timestamp with time zone DEFAULT now() NOT NULL,
	"quarantined_at" timestamp with time zone,
	CONSTRAINT "unknown_capsules_host_id_capsule_id_pk" PRIMARY KEY("host_id","capsule_id")
);
--> statement-breakpoint
ALTER TABLE "unknown_capsules" ADD CONSTRAINT "unknown_capsules_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE FUNCTION hosts_note_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO deleted_hosts (id) VALUES (OLD.id) ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER hosts_note_deleted AFTER DELETE ON hosts
	FOR EACH ROW EXECUTE FUNCTION hosts_note_deleted();
