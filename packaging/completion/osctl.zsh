#compdef osctl
# Completion of osctl for zsh: asks osctl itself, which asks the daemon; nothing is said when no daemon answers.

_osctl() {
    local -a answer shown completed
    local line
    if [[ ${words[CURRENT-1]} == --socket ]]; then
        _files
        return
    fi
    # What stands behind the cursor does not matter; quotes are taken off.
    answer=("${(@f)$(${(Q)words[1]} --complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in $answer; do
        if [[ $line == :files* ]]; then
            [[ $PREFIX == --*=* ]] && compset -P '*='
            _files
            return
        fi
        completed+=("${line%%$'\t'*}")
        line=${line/$'\t'/  -- }
        shown+=("${line%  -- }")
    done
    (( ${#completed} )) && compadd -l -V osctl -d shown -a completed
}

# Autoloaded from fpath, this file is the function's body at its first call; sourced, it only defines it.
if [[ ${funcstack[1]} == _osctl ]]; then
    _osctl "$@"
elif (( ${+functions[compdef]} )); then
    compdef _osctl osctl
fi
