"""A guest of scripts/vm, and how the product is installed in it: as deploy/README.md says, word for word."""
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

from server import Failure, Server, wait

ROOT = Path(__file__).resolve().parents[3]
VM = ROOT / 'scripts/vm'
# The part of deploy/README.md whose commands are carried out.
SECTION = '## A machine'
# How long the server may take to be ready, with a Docker daemon that comes first.
READY_SECS = 900
# What they do first, which has happened already.
COMPILE = 'cargo build --release --locked && '


class Guest:
    def __init__(self, name, release):
        self.name, self.release = name, release
        self.server = None
        self.witness_path = None

    def vm(self, verb, *arguments, check=True):
        environment = {**os.environ, 'FLOTILLA_VM_RELEASE': self.release}
        command = [VM, verb, self.name, *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = (stream.decode(errors='replace') for stream in (done.stdout, done.stderr))
        if check and done.returncode != 0:
            raise Failure(f'in the guest: {" ".join(arguments) or verb}\nexit status {done.returncode}\n{out}{err}')
        return out

    def run(self, script, check=True):
        return self.vm('run', script, check=check)

    def put(self, source, path, mode):
        self.vm('put', str(source), path, mode)

    def put_text(self, text, path, mode='644'):
        with tempfile.NamedTemporaryFile('w') as file:
            file.write(text)
            file.flush()
            self.put(file.name, path, mode)

    def up(self):
        said = dict(shlex.split(line)[0].split('=', 1) for line in self.vm('up').splitlines())
        self.server = Server(said['FLOTILLA_VM_URL'])
        self.witness_path = Path(said['FLOTILLA_VM_WITNESS'])

    def cut(self):
        self.vm('cut')

    def down(self):
        self.vm('down')

    def throttle(self, writes_a_second):
        self.vm('throttle', str(writes_a_second))

    def purge(self):
        self.vm('purge')

    def witness(self):
        """What tasks wrote to the serial port: it was on the host at once, whatever became of the guest."""
        if not self.witness_path.exists():
            return []
        return self.witness_path.read_bytes().decode(errors='replace').split()

    def booted_at(self):
        """When the guest booted last, in seconds of its own clock."""
        return int(self.run("awk '$1 == \"btime\" {print $2}' /proc/stat"))

    def install(self, program, max_running):
        """Carries out the commands of deploy/README.md, in a folder like a clone of the repository."""
        example = (ROOT / 'examples/flotilla.toml').read_text()
        # What the host has to reach, and how many places there are.
        config = substitute(example, r'^listen = .*$', 'listen = "0.0.0.0:3000"')
        config = substitute(config, r'^# max_running = 16$', f'max_running = {max_running}')
        self.put_text(config, '/src/examples/flotilla.toml')
        self.put(ROOT / 'deploy/systemd/flotilla.service', '/src/deploy/systemd/flotilla.service', '644')
        self.put(program, '/src/target/release/flotilla', '755')
        commands = commands_of((ROOT / 'deploy/README.md').read_text())
        self.run(f'cd /src && set -euo pipefail\n{commands}\nrm target/release/flotilla')
        self.wait_until_ready()

    def wait_until_ready(self):
        wait('the server is ready', READY_SECS, self.server.is_ready, self.describe)

    def describe(self):
        """What helps to understand a failure."""
        if self.server is None:
            return ''
        return self.run(
            'systemctl status --no-pager --lines 0 flotilla; journalctl --boot --no-pager --lines 80 --output cat '
            '--unit flotilla; ls -la /var/lib/flotilla/runs | tail -n 30; df -h / | tail -n 1', check=False)


def commands_of(readme):
    section = readme.split(f'{SECTION}\n', 1)[1]
    block = section.split('```\n', 2)[1]
    if COMPILE not in block:
        raise Failure(f'deploy/README.md no longer begins to install with {COMPILE!r}')
    return block.replace(COMPILE, '')


def substitute(text, pattern, replacement):
    """The first such line is replaced."""
    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
    if count == 0:
        raise Failure(f'examples/flotilla.toml has no line like {pattern!r}')
    return changed
