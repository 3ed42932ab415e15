# Completion of osctl for bash: asks osctl itself, which asks the daemon; nothing is said when no daemon answers.

_osctl() {
    local -a words=()
    local line=${COMP_LINE:0:COMP_POINT} rest word current prefix=
    local index
    COMPREPLY=()

    # bash splits words at colons and equals signs too: what stands without a blank between is put together again.
    rest=$line
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ -n $line ]]; then
            if ((index > 0)) && [[ $rest != [[:blank:]]* ]]; then
                ((index < COMP_CWORD)) || word=$rest
                words[-1]+=$word
                rest=${rest#"$word"}
                continue
            fi
            rest=${rest#"${rest%%[![:blank:]]*}"}
            ((index < COMP_CWORD)) || word=$rest # as far as the cursor
            rest=${rest#"$word"}
        fi
        words+=("$word")
    done
    ((${#words[@]} > 1)) || return 0

    current=${words[-1]}
    if [[ ${words[-2]} == --socket ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return 0
    fi
    # What bash takes for the current word begins behind the last of these.
    if [[ $COMP_WORDBREAKS == *:* ]]; then
        prefix=${current%"${current##*[:=]}"}
    elif [[ $COMP_WORDBREAKS == *=* ]]; then
        prefix=${current%"${current##*=}"}
    fi
    while IFS= read -r word; do
        if [[ $word == :files* ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "${current#"$prefix"}")
            continue
        fi
        word=${word%%$'\t'*}
        COMPREPLY+=("${word#"$prefix"}")
    done < <("${words[0]}" --complete "${words[@]:1}" 2>/dev/null)
}

complete -F _osctl osctl
