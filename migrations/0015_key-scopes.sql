ALTER TABLE "team_api_keys" ADD COLUMN "expires_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "team_api_keys" ADD COLUMN "scopes" text[];--> statement-breakpoint
ALTER TABLE "team_api_keys" ADD CONSTRAINT "team_api_keys_scopes" CHECK ("team_api_keys"."scopes" <@ array['read', 'exec', 'write', 'admin']);