# shellcheck shell=bash disable=SC2034,SC2154  # `reason` is the sourcing script's
# The program of an nginx with the settings of Debian's package; exports FLOTILLA_TEST_NGINX. Tests start their own.

start_nginx() {
    if [[ -n ${FLOTILLA_TEST_NGINX:-} ]]; then
        export FLOTILLA_TEST_NGINX
        return
    fi
    local program
    program=$(command -v nginx) || install_packages nginx || return
    program=$(command -v nginx) || { reason='the package nginx brings no nginx'; return 1; }
    [[ -r /etc/nginx/nginx.conf ]] || { reason='there is no /etc/nginx/nginx.conf, as the package nginx brings it'; return 1; }
    export FLOTILLA_TEST_NGINX=$program
}
