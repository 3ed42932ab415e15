# Completion of osctl for fish: asks osctl itself, which asks the daemon; nothing is said when no daemon answers.

function __osctl_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    if test "$typed[-1]" = --socket
        __fish_complete_path $current
        return
    end
    set -l program $typed[1]
    for line in ($program --complete $typed[2..] $current 2>/dev/null)
        if string match -q ':files*' -- $line
            __fish_complete_path (string replace -r -- '^--[^=]*=' '' $current)
        else
            echo $line
        end
    end
end

complete -c osctl -f -k -a '(__osctl_complete)'
