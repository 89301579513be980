"""What the checks ask of a server, by its API."""
import http.client
import json
import time
import urllib.error
import urllib.request

# Emulated, everything is 10 to 40 times slower; a cut leaves connections behind that nobody answers on.
ANSWER_SECS = 30


class Failure(Exception):
    """Something is not as it has to be."""


class Unanswered(Exception):
    """Nobody knows whether the request was carried out."""


def wait(what, seconds, look, describe=lambda: ''):
    """The first true answer of `look`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except Unanswered:
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f'not within {seconds} seconds: {what}\n{describe()}')
        time.sleep(0.5)


class Server:
    def __init__(self, url):
        self.url = url
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method, path, body=None):
        """The status and the body of an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        try:
            with self.opener.open(request, timeout=ANSWER_SECS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f'{method} {path}: {error!r}') from error

    def get(self, path):
        status, body = self.ask('GET', path)
        if status == 503:
            raise Unanswered(f'GET {path}: {body!r}')
        if status != 200:
            raise Failure(f'GET {path}: {status} {body!r}')
        return json.loads(body)

    def is_ready(self):
        return self.ask('GET', '/health/ready')[0] == 200

    def define(self, alias, command, **more):
        body = {'alias': alias, 'group_name': 'power', 'image': 'busybox:power', 'command': command, **more}
        status, answer = self.ask('POST', '/api/v1/task', body)
        if status != 200:
            raise Failure(f'{alias} is not defined: {status} {answer!r}')

    def launch(self, alias, env=None, **more):
        """The run; `None` where the server said that it can't now."""
        env = [{'name': name, 'value': str(value)} for name, value in (env or {}).items()]
        status, answer = self.ask('PUT', f'/api/v1/task/alias/{alias}/execute', {'env': env, **more})
        if status == 503:
            return None
        if status != 200:
            raise Failure(f'a launch of {alias} is refused: {status} {answer!r}')
        return json.loads(answer)

    def stop(self, run):
        """Whether the server said that it stops the run."""
        path = f'/api/v1/task/{run["definition_id"]}/history/{run["run_id"]}'
        status, answer = self.ask('DELETE', path)
        return status == 200 and json.loads(answer)['stopped'] is True

    def runs(self):
        return self.get('/api/v1/history?limit=10000')['history']

    def run(self, run_id):
        return self.get(f'/api/v1/history/{run_id}')

    def log(self, run_id):
        status, answer = self.ask('GET', f'/api/v1/{run_id}/logs?raw_text=true')
        if status != 200:
            raise Failure(f'the log of {run_id}: {status} {answer!r}')
        return answer.decode()

    def events(self, run_id):
        return self.get(f'/api/v6/{run_id}/events')

    def wait_for(self, run_id, status):
        def look():
            run = self.run(run_id)
            return run if run['status'] == status else None
        return wait(f'run {run_id} is {status}', 120, look, lambda: json.dumps(self.run(run_id), indent=1))
