-- The platform's images have a user of their own, who may sudo without a password. What was made before goes
-- on as it was: capsules and snapshots have their template's user at the time in their own rows.
UPDATE templates SET default_user = 'wrenn-user'
	WHERE team_id = '00000000-0000-0000-0000-000000000000' AND type = 'base' AND default_user = 'root'
		AND id <= '00000000-0000-0000-0000-000000000004';
