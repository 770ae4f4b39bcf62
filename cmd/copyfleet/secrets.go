package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// secretsCmd looks after named secrets.
type secretsCmd struct {
	Set    secretsSetCmd    `cmd:"" help:"Keep a secret under a name. It is taken from the standard input, asked for on a terminal, or read from a file; never from the command line, which others can see."`
	List   secretsListCmd   `cmd:"" help:"List the names of the secrets. A secret itself is never shown."`
	Delete secretsDeleteCmd `cmd:"" help:"Delete a secret. Rules that use it are refused their copies from then on."`
}

const secretsPath = "/v1/secrets"

func secretPath(name string) string { return secretsPath + "/" + url.PathEscape(name) }

type secretsSetCmd struct {
	clientFlags
	Name      string `arg:"" help:"The name; rules write {{secret.NAME}}."`
	ValueFile string `help:"File with the secret." name:"value-file" placeholder:"FILE"`
}

// Run sets. What ends the last line is no part of a secret.
func (c *secretsSetCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	value, err := c.value(ctx, env)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if _, err := api.call(ctx, http.MethodPut, secretPath(c.Name), nil, map[string]string{"value": value}, &raw); err != nil {
		return err
	}
	if env.json {
		if len(raw) == 0 {
			return printJSON(env, map[string]string{"name": c.Name, "result": "set"})
		}
		return printJSON(env, raw)
	}
	return printf(env, "set: %s\n", clean(c.Name))
}

func (c *secretsSetCmd) value(ctx context.Context, env *environment) (string, error) {
	file, is := env.stdin.(*os.File)
	if c.ValueFile == "" && is && term.IsTerminal(int(file.Fd())) {
		return askSecret(ctx, env, file)
	}
	name := c.ValueFile
	if name == "" {
		name = "-"
	}
	data, err := readInput("the secret", name, env.stdin, triggers.MaxSecret+2)
	if err != nil {
		return "", err
	}
	if data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r")); len(data) == 0 {
		return "", exitWith(exitUsage, "the secret is empty")
	}
	return string(data), nil
}

// askSecret asks on a terminal, twice, and shows nothing of what is typed. However it ends, the terminal is as it was.
func askSecret(ctx context.Context, env *environment, file *os.File) (secret string, err error) {
	fd := int(file.Fd())
	before, err := term.MakeRaw(fd) // before the question, so that what is typed at once is not shown either
	if err != nil {
		return "", exitWith(exitUsage, "the terminal: %w; --value-file reads the secret from a file", err)
	}
	defer func() { err = errors.Join(err, term.Restore(fd, before)) }()
	type typed struct {
		secret string
		err    error
	}
	answer := make(chan typed, 1)
	go func() { // after a signal it stays in a read that nothing ends; the process ends then
		secret, err := askTwice(term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{file, env.stderr}, ""))
		answer <- typed{secret, err}
	}()
	select {
	case got := <-answer:
		return got.secret, got.err
	case <-ctx.Done():
		return "", interrupted(ctx)
	}
}

func askTwice(screen *term.Terminal) (string, error) {
	var answers [2]string
	for i, question := range []string{"Secret: ", "Again: "} {
		text, err := screen.ReadPassword(question)
		if errors.Is(err, io.EOF) { // Ctrl-C and Ctrl-D
			return "", &exitError{code: exitCanceled, reason: "interrupted", err: errors.New("interrupted; nothing was set")}
		}
		if err != nil {
			return "", exitWith(exitUsage, "the secret: %w", err)
		}
		answers[i] = text
	}
	switch {
	case answers[0] != answers[1]:
		return "", exitWith(exitUsage, "the two are not the same; nothing was set")
	case answers[0] == "":
		return "", exitWith(exitUsage, "the secret is empty")
	}
	return answers[0], nil
}

type secretsListCmd struct {
	clientFlags
}

// Run lists.
func (c *secretsListCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var answer struct {
		Secrets []json.RawMessage `json:"secrets"`
	}
	if err := api.get(ctx, secretsPath, nil, &answer); err != nil {
		return err
	}
	now, t := time.Now(), &table{Header: []string{"SECRET", "SET", "USED BY"}}
	return printList(env, t, answer.Secrets, "secrets", func(s triggers.SecretView) {
		t.Add(s.Name, ago(s.Updated, now), strings.Join(s.UsedBy, ", "))
	})
}

type secretsDeleteCmd struct {
	clientFlags
	Name string `arg:"" help:"The secret's name."`
}

// Run deletes.
func (c *secretsDeleteCmd) Run(ctx context.Context, env *environment) error {
	return deleteNamed(ctx, env, c.clientFlags, secretPath(c.Name), c.Name)
}
