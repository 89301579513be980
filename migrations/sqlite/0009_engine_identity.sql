-- Which engine has the attempt: a daemon's id, a cluster's uid. An attempt from before this step belongs to the first
-- engine that is seen in its cluster.
ALTER TABLE attempts ADD COLUMN engine_id TEXT;
