-- GPUs are counted at dispatch. Of runs that have stopped nothing is reserved.
ALTER TABLE runs ADD COLUMN gpus BIGINT;
UPDATE runs SET gpus = CAST(CAST(task AS json) ->> 'gpu' AS BIGINT) WHERE status <> 'STOPPED';
