# shellcheck shell=bash disable=SC2034,SC2154  # `work` and `reason` are the sourcing script's
# A chromedriver with its Chromium, and axe, which judges how accessible pages are; exports FLOTILLA_TEST_BROWSER and
# FLOTILLA_TEST_AXE.

start_browser() {
    fetch_axe || return
    if [[ -n ${FLOTILLA_TEST_BROWSER:-} ]]; then
        export FLOTILLA_TEST_BROWSER
        return
    fi
    if ! command -v chromedriver >/dev/null || ! command -v chromium >/dev/null; then
        install_packages chromium chromium-driver || return
    fi
    local attempt port tenth
    # Another process may take a port between the look and the start.
    for attempt in 1 2 3; do
        port=$(free_port)
        # In a process group of its own, with the browsers that it opens; their profiles go with $work.
        set -m
        TMPDIR=$work chromedriver --port="$port" >"$work/browser.log" 2>&1 &
        browser_job=$!
        set +m
        for tenth in {1..100}; do
            if (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
                export FLOTILLA_TEST_BROWSER=http://127.0.0.1:$port
                return
            fi
            kill -0 "$browser_job" 2>/dev/null || break
            sleep 0.1
        done
        stop_browser
    done
    reason="chromedriver did not start in $attempt tries: $(tail -n1 "$work/browser.log")"
    return 1
}

stop_browser() {
    if [[ -n ${browser_job:-} ]]; then
        kill -TERM -- "-$browser_job" 2>/dev/null || true
        wait "$browser_job" 2>/dev/null || true
        browser_job=
    fi
}

# From the npm registry, checked against its own checksum by npm; nothing of it is kept.
fetch_axe() {
    if [[ -n ${FLOTILLA_TEST_AXE:-} ]]; then
        export FLOTILLA_TEST_AXE
        return
    fi
    command -v npm >/dev/null || install_packages npm || return
    mkdir -p "$work/axe"
    if ! (cd -- "$work/axe" && npm pack --silent axe-core@4 >"$work/axe.log" 2>&1 && tar -xzf axe-core-*.tgz package/axe.min.js); then
        reason="npm could not fetch axe-core: $(tail -n1 "$work/axe.log")"
        return 1
    fi
    export FLOTILLA_TEST_AXE=$work/axe/package/axe.min.js
}
