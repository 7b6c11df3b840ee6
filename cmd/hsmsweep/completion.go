package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the flags.
func (completionCmd) Help() string {
	return `Examples:
  source <(hsmsweep completion bash)      # bash, zsh: in .bashrc, .zshrc
  hsmsweep completion fish | source       # fish: in config.fish`
}

// Run is the command. The script is made of the program's own commands and flags; the two libraries that do this for kong hang on one that
// has not been kept for years.
func (c *completionCmd) Run(program *kong.Kong, std streams) error {
	root := program.Model.Node
	var script string
	switch c.Shell {
	case "bash":
		script = bashCompletion(root)
	case "zsh":
		script = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n" + bashCompletion(root)
	case "fish":
		script = fishCompletion(root)
	}
	_, err := io.WriteString(std.out, script)
	return err
}

// bashCompletion finds the command among the words before, and offers what may follow it. Where nothing fits, files are offered.
func bashCompletion(root *kong.Node) string {
	var paths, offers []string
	walk(root, "", func(n *kong.Node, path string) {
		if path != "" {
			paths = append(paths, path)
		}
		var words []string
		for _, child := range n.Children {
			words = append(words, child.Name)
		}
		for _, arg := range n.Positional {
			words = append(words, arg.EnumSlice()...)
		}
		for _, flag := range n.Flags {
			words = append(words, "--"+flag.Name)
		}
		offers = append(offers, fmt.Sprintf("    %q) words=%q ;;\n", path, strings.Join(words, " ")))
	})
	return `_hsmsweep() {
  local command= word words
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$command/$word" in
      ` + strings.Join(paths, "|") + `) command="$command/$word" ;;
    esac
  done
  case "$command" in
` + strings.Join(offers, "") + `  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _hsmsweep hsmsweep
`
}

func fishCompletion(root *kong.Node) string {
	var script strings.Builder
	quoted := func(text string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'" }
	walk(root, "", func(n *kong.Node, path string) {
		words := strings.Fields(strings.ReplaceAll(path, "/", " "))
		seen := make([]string, len(words))
		for i, word := range words {
			seen[i] = "__fish_seen_subcommand_from " + word
		}
		var below []string
		for _, child := range n.Children {
			below = append(below, child.Name)
		}
		if len(below) > 0 {
			here := append(seen, "not __fish_seen_subcommand_from "+strings.Join(below, " "))
			for _, child := range n.Children {
				fmt.Fprintf(&script, "complete -c hsmsweep -f -n %s -a %s -d %s\n", quoted(strings.Join(here, "; and ")), child.Name, quoted(child.Help))
			}
		}
		for _, arg := range n.Positional {
			for _, word := range arg.EnumSlice() {
				fmt.Fprintf(&script, "complete -c hsmsweep -f -n %s -a %s\n", quoted(strings.Join(seen, "; and ")), word)
			}
		}
		for _, flag := range n.Flags {
			value := "" // or a value follows
			if !flag.IsBool() {
				value = " -r"
			}
			condition := ""
			if len(seen) > 0 {
				condition = " -n " + quoted(strings.Join(seen, "; and "))
			}
			fmt.Fprintf(&script, "complete -c hsmsweep%s -l %s%s -d %s\n", condition, flag.Name, value, quoted(flag.Help))
		}
	})
	return script.String()
}

// walk visits a command and those below it, each with the way to it: /deadletter/list.
func walk(n *kong.Node, path string, visit func(*kong.Node, string)) {
	visit(n, path)
	for _, child := range n.Children {
		walk(child, path+"/"+child.Name, visit)
	}
}
