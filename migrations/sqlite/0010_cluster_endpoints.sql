-- Where the engine of a cluster with settings is. Nothing is claimed by who knows another.
ALTER TABLE clusters ADD COLUMN endpoint TEXT;
