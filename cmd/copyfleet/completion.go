package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints a script for a shell. It is made from the commands and flags themselves, so that it cannot lag behind.
type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help is shown by --help.
func (*completionCmd) Help() string {
	return `bash: source <(copyfleet completion bash)
zsh:  source <(copyfleet completion zsh)
fish: copyfleet completion fish | source`
}

// Run prints the script.
func (c *completionCmd) Run(kctx *kong.Context, env *environment) error {
	places := completionOf(kctx.Model.Node)
	var b strings.Builder
	switch c.Shell {
	case "bash":
		bashCompletion(&b, places)
	case "zsh":
		zshCompletion(&b, places)
	case "fish":
		fishCompletion(&b, places)
	}
	_, err := io.WriteString(env.stdout, b.String())
	return wrapPrint(err)
}

// place is a command, and what may stand behind it.
type place struct {
	path     string // "dead list"; "" before any command
	commands []word
	flags    []flagWord
	values   []string // of its arguments, where there is a choice
	files    bool     // its argument is a file
}

// word is something that can be completed, with its help.
type word struct{ name, help string }

type flagWord struct {
	word

	takes  bool // a value
	values []string
	files  bool
}

// completionOf walks through the commands.
func completionOf(node *kong.Node) []place {
	p := place{path: strings.TrimPrefix(strings.TrimPrefix(node.Path(), node.Name), " ")}
	if node.Parent != nil {
		p.path = commandPath(node)
	}
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			p.flags = append(p.flags, flagWord{
				word: word{"--" + flag.Name, flag.Help}, takes: !flag.IsBool() && !flag.IsCounter(), values: choices(flag.Value),
				files: strings.Contains(flag.PlaceHolder, "FILE") || strings.Contains(flag.PlaceHolder, "DIR") || flag.Tag.Get("completion") == "file",
			})
		}
	}
	for _, arg := range node.Positional {
		p.values = append(p.values, choices(arg)...)
		p.files = p.files || arg.Tag.Get("completion") == "file"
	}
	all := []place{}
	for _, child := range node.Children {
		if !child.Hidden {
			p.commands = append(p.commands, word{child.Name, child.Help})
			all = append(all, completionOf(child)...)
		}
	}
	return append([]place{p}, all...)
}

func commandPath(node *kong.Node) string {
	if node.Parent == nil || node.Parent.Parent == nil {
		return node.Name
	}
	return commandPath(node.Parent) + " " + node.Name
}

func choices(value *kong.Value) []string {
	var out []string
	for _, v := range value.EnumSlice() {
		if v != "" {
			out = append(out, v)
		}
	}
	return out
}

func names(words []word) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.name
	}
	return out
}

// shellQuote quotes for bash and zsh.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// paths lists what may be typed as commands.
func paths(places []place) string {
	var list []string
	for _, p := range places {
		if p.path != "" {
			list = append(list, shellQuote(p.path))
		}
	}
	return strings.Join(list, "|")
}

func bashCompletion(b *strings.Builder, places []place) {
	fmt.Fprintf(b, `# bash completion for copyfleet: source <(copyfleet completion bash)
_copyfleet() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= words= files= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${at:+$at }${COMP_WORDS[i]}" in
      %s) at="${at:+$at }${COMP_WORDS[i]}" ;;
    esac
  done
  COMPREPLY=()
  case "$at $prev" in
`, paths(places))
	for _, p := range places {
		for _, f := range p.flags {
			if !f.takes {
				continue
			}
			fmt.Fprintf(b, "    %s) words=%s", shellQuote(p.path+" "+f.name), shellQuote(strings.Join(f.values, " ")))
			if f.files {
				b.WriteString(" files=1")
			}
			b.WriteString(" ;;\n")
		}
	}
	b.WriteString("    *)\n      case \"$at\" in\n")
	for _, p := range places {
		flags := make([]word, len(p.flags))
		for i, f := range p.flags {
			flags[i] = f.word
		}
		plain := strings.Join(append(names(p.commands), p.values...), " ")
		fmt.Fprintf(b, "        %s) words=%s", shellQuote(p.path), shellQuote(plain))
		if p.files {
			b.WriteString(" files=1")
		}
		fmt.Fprintf(b, "; [[ $cur == -* ]] && words=%s files= ;;\n", shellQuote(strings.Join(names(flags), " ")))
	}
	b.WriteString(`      esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen -f -- "$cur"))
  fi
}
complete -F _copyfleet copyfleet
`)
}

// described writes words as zsh's _describe takes them.
func described(words []word) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = shellQuote(strings.ReplaceAll(w.name, ":", `\:`) + ":" + strings.ReplaceAll(w.help, ":", `\:`))
	}
	return strings.Join(list, " ")
}

func zshCompletion(b *strings.Builder, places []place) {
	fmt.Fprintf(b, `#compdef copyfleet
# zsh completion for copyfleet: source <(copyfleet completion zsh)
_copyfleet() {
  local at= prev=${words[CURRENT-1]} i
  local -a commands flags values
  for ((i = 2; i < CURRENT; i++)); do
    case "${at:+$at }${words[i]}" in
      %s) at="${at:+$at }${words[i]}" ;;
    esac
  done
  case "$at $prev" in
`, paths(places))
	for _, p := range places {
		for _, f := range p.flags {
			switch {
			case f.files:
				fmt.Fprintf(b, "    %s) _files; return ;;\n", shellQuote(p.path+" "+f.name))
			case f.takes:
				fmt.Fprintf(b, "    %s) values=(%s); compadd -a values; return ;;\n", shellQuote(p.path+" "+f.name), strings.Join(f.values, " "))
			}
		}
	}
	b.WriteString("  esac\n  case \"$at\" in\n")
	for _, p := range places {
		flags := make([]word, len(p.flags))
		for i, f := range p.flags {
			flags[i] = f.word
		}
		fmt.Fprintf(b, "    %s)\n      commands=(%s)\n      values=(%s)\n      flags=(%s)\n",
			shellQuote(p.path), described(p.commands), strings.Join(p.values, " "), described(flags))
		if p.files {
			b.WriteString("      [[ $PREFIX == -* ]] || _files\n")
		}
		b.WriteString("      ;;\n")
	}
	b.WriteString(`  esac
  if [[ $PREFIX == -* ]]; then
    _describe -o flag flags
  else
    (( $#commands )) && _describe command commands
    (( $#values )) && compadd -a values
  fi
}
if [[ $funcstack[1] == _copyfleet ]]; then
  _copyfleet "$@"
else
  compdef _copyfleet copyfleet
fi
`)
}

// fishQuote quotes for fish.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

func fishCompletion(b *strings.Builder, places []place) {
	b.WriteString("# fish completion for copyfleet: copyfleet completion fish | source\nfunction __copyfleet_at\n  set -l at\n")
	b.WriteString("  for word in (commandline -opc)[2..]\n    switch (string join ' ' -- $at $word)\n")
	for _, p := range places {
		if p.path != "" {
			fmt.Fprintf(b, "      case %s\n        set at $at $word\n", fishQuote(p.path))
		}
	}
	b.WriteString(`    end; end
  test "$at" = "$argv"
end
complete -c copyfleet -f
`)
	for _, p := range places {
		at := fishQuote("__copyfleet_at " + p.path)
		for _, w := range p.commands {
			fmt.Fprintf(b, "complete -c copyfleet -n %s -a %s -d %s\n", at, fishQuote(w.name), fishQuote(w.help))
		}
		for _, v := range p.values {
			fmt.Fprintf(b, "complete -c copyfleet -n %s -a %s\n", at, fishQuote(v))
		}
		if p.files {
			fmt.Fprintf(b, "complete -c copyfleet -n %s -F\n", at)
		}
		for _, f := range p.flags {
			fmt.Fprintf(b, "complete -c copyfleet -n %s -l %s -d %s", at, strings.TrimPrefix(f.name, "--"), fishQuote(f.help))
			switch {
			case f.files:
				b.WriteString(" -r -F")
			case len(f.values) > 0:
				b.WriteString(" -x -a " + fishQuote(strings.Join(f.values, " ")))
			case f.takes:
				b.WriteString(" -x")
			}
			b.WriteString("\n")
		}
	}
}
