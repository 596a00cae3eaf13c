ALTER TABLE "users" ALTER COLUMN "status" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" ALTER COLUMN "template" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" ALTER COLUMN "vcpus" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" ALTER COLUMN "memory_mb" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" ALTER COLUMN "timeout_sec" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" ALTER COLUMN "disk_size_mb" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" ALTER COLUMN "default_user" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "template_builds" ALTER COLUMN "vcpus" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "template_builds" ALTER COLUMN "memory_mb" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "template_builds" ALTER COLUMN "default_user" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "templates" ALTER COLUMN "vcpus" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "templates" ALTER COLUMN "memory_mb" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "templates" ALTER COLUMN "default_user" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "capsules" DROP COLUMN "guest_ip";