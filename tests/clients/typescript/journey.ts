// A day of a program in TypeScript: it defines a task, launches it, reads its log, stops another, finds both, deletes.

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

type Run = components["schemas"]["Run"];

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });

function equal(found: unknown, expected: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
  }
}

/** The body of an answer that has to be a good one. */
function ok<Body>(answer: { data?: Body; error?: unknown }): Body {
  if (answer.data === undefined) {
    throw new Error(JSON.stringify(answer.error));
  }
  return answer.data;
}

async function stopped(run_id: string): Promise<Run> {
  for (;;) {
    const status = ok(await client.GET("/api/v6/{run_id}/status", { params: { path: { run_id } } }));
    if (status.status === "STOPPED") {
      return ok(await client.GET("/api/v1/history/{run_id}", { params: { path: { run_id } } }));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const task = ok(
  await client.POST("/api/v1/task", {
    body: {
      group_name: "clients",
      image: "none",
      command: 'echo "hello $NAME"; echo done',
      env: [{ name: "NAME", value: "nobody" }],
      memory: 64,
      tags: ["example"],
    },
  }),
);
const { definition_id } = task;
equal([task.alias, task.memory, "cpu" in task], ["", 64, false]);

const launched = ok(
  await client.PUT("/api/v4/task/{definition_id}/execute", {
    params: { path: { definition_id } },
    body: { env: [{ name: "NAME", value: "Ada" }], run_tags: { owner_id: "ada" } },
  }),
);
equal([launched.status, launched.user, "exit_code" in launched, "started_at" in launched], ["QUEUED", "ada", false, false]);
const run = await stopped(launched.run_id);
equal([run.outcome, run.exit_code], ["succeeded", 0]);

const inRun = { params: { path: { run_id: run.run_id } } };
const log = ok(await client.GET("/api/v1/{run_id}/logs", inRun));
const rest = ok(
  await client.GET("/api/v1/{run_id}/logs", {
    params: { path: inRun.params.path, query: { last_seen: (log as { last_seen: string }).last_seen } },
  }),
);
equal([(log as { log: string }).log, (rest as { log: string }).log], ["hello Ada\ndone\n", ""]);
const raw = ok(
  await client.GET("/api/v1/{run_id}/logs", {
    params: { path: inRun.params.path, query: { raw_text: true } },
    parseAs: "text",
  }),
);
equal(raw, "hello Ada\ndone\n");

ok(await client.PUT("/api/v1/task/{definition_id}", { params: { path: { definition_id } }, body: { command: "sleep 1000" } }));
// A launch needs no body.
const long = ok(await client.PUT("/api/v6/task/{definition_id}/execute", { params: { path: { definition_id } } }));
const stop = ok(
  await client.DELETE("/api/v1/task/{definition_id}/history/{run_id}", {
    params: { path: { definition_id, run_id: long.run_id } },
  }),
);
equal([stop.stopped, stop.terminated], [true, true]);
equal((await stopped(long.run_id)).outcome, "stopped");

const list = ok(
  await client.GET("/api/v1/history", {
    params: {
      query: {
        status: ["STOPPED", "RUNNING"],
        definition_id: [definition_id, "another"],
        outcome: ["succeeded"],
        sort_by: "started_at",
        order: "desc",
        limit: 10,
      },
    },
  }),
);
equal([list.total, list.history.map((found) => found.run_id)], [1, [run.run_id]]);

const deleted = ok(await client.DELETE("/api/v1/task/{definition_id}", { params: { path: { definition_id } } }));
equal(deleted, { definition_id, deleted: true });
const gone = await client.GET("/api/v1/task/{definition_id}", { params: { path: { definition_id } } });
equal([gone.response.status, typeof gone.error?.error], [404, "string"]);
console.log("arrived");
