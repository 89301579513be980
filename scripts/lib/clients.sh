# shellcheck shell=bash disable=SC2034,SC2154  # `work` and `reason` are the sourcing script's
# Generators of API clients and a property-based client, from the registries of Python and npm, in the versions that
# tests/clients names; exports FLOTILLA_TEST_CLIENTS, the folder that has them. They are kept in the user's cache.

start_clients() {
    if [[ -n ${FLOTILLA_TEST_CLIENTS:-} ]]; then
        export FLOTILLA_TEST_CLIENTS
        return
    fi
    local cache pins folder
    cache=${FLOTILLA_CLIENTS_CACHE:-$HOME/.cache/flotilla-clients}
    # Another list of versions is another folder.
    pins=$(cat tests/clients/python/requirements.txt tests/clients/typescript/package-lock.json | sha256sum | cut -c 1-16)
    folder=$cache/$pins
    if [[ ! -e $folder/done ]]; then
        command -v npm >/dev/null || install_packages npm || return
        python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv || return
        mkdir -p "$cache"
        # One installs, another that comes meanwhile waits for it.
        (
            flock 9
            [[ -e $folder/done ]] || install_clients "$folder"
        ) 9>"$cache/lock" || { reason=$(tail -n1 "$work/clients.log"); return 1; }
    fi
    export FLOTILLA_TEST_CLIENTS=$folder
}

# In place, for programs of a Python environment name it by its path.
install_clients() {
    say 'installing the generators of clients'
    {
        rm -rf -- "$1" && mkdir -p "$1/typescript" &&
            python3 -m venv "$1/python" &&
            "$1/python/bin/pip" install --quiet --disable-pip-version-check --no-deps \
                --requirement tests/clients/python/requirements.txt &&
            cp tests/clients/typescript/package.json tests/clients/typescript/package-lock.json "$1/typescript/" &&
            npm ci --prefix "$1/typescript" --silent --no-audit --no-fund --ignore-scripts &&
            touch "$1/done"
    } >"$work/clients.log" 2>&1
}
