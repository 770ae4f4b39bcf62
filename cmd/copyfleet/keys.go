package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// keysCmd looks after API keys.
type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Make a key and print it, the only time that it is shown."`
	List   keysListCmd   `cmd:"" help:"List keys; the keys themselves are not kept."`
	Revoke keysRevokeCmd `cmd:"" help:"Make a key worthless, at once."`
}

type keysCreateCmd struct {
	clientFlags
	Org  string `arg:"" help:"The org that the key is for."`
	Role string `help:"read, copy or admin." enum:"read,copy,admin" default:"copy"`
	Name string `help:"Your words for it." placeholder:"TEXT"`
}

// apiKey is a key as the API shows it.
type apiKey struct {
	ID      string    `json:"id"`
	Org     string    `json:"org"`
	Role    string    `json:"role"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Secret  string    `json:"key"`
}

// Run makes a key. Only the key goes to the standard output, so that a script can take it.
func (c *keysCreateCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	body := map[string]string{"org": c.Org, "role": c.Role}
	if c.Name != "" {
		body["name"] = c.Name
	}
	if _, err := api.call(ctx, http.MethodPost, "/v1/keys", nil, body, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var made apiKey
	if err := json.Unmarshal(raw, &made); err != nil {
		return notPromised(err)
	}
	_, _ = fmt.Fprintf(env.stderr, "Key %s for %s, role %s. It is not shown again:\n", clean(made.ID), clean(made.Org), clean(made.Role)) // the key matters
	_, err = fmt.Fprintln(env.stdout, clean(made.Secret))
	return wrapPrint(err)
}

type keysListCmd struct {
	clientFlags
	Org string `arg:"" optional:"" help:"The org; without it, all orgs."`
}

// Run lists.
func (c *keysListCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Org != "" {
		query.Set("org", c.Org)
	}
	var answer struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := api.get(ctx, "/v1/keys", query, &answer); err != nil {
		return err
	}
	now := time.Now()
	t := &table{Header: []string{"KEY", "ORG", "ROLE", "CREATED", "NAME"}}
	for _, raw := range answer.Keys {
		if env.json {
			if err := printJSON(env, raw); err != nil {
				return err
			}
			continue
		}
		var key apiKey
		if err := json.Unmarshal(raw, &key); err != nil {
			return notPromised(err)
		}
		t.Add(key.ID, key.Org, key.Role, ago(key.Created, now), key.Name)
	}
	return listed(env, t, len(answer.Keys), "", "keys")
}

type keysRevokeCmd struct {
	clientFlags
	ID string `arg:"" help:"The key's id, as list shows it; not the key itself."`
}

// Run revokes.
func (c *keysRevokeCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if _, err := api.call(ctx, http.MethodDelete, "/v1/keys/"+url.PathEscape(c.ID), nil, nil, nil); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, map[string]string{"id": c.ID, "result": "revoked"})
	}
	_, err = fmt.Fprintf(env.stdout, "revoked: %s\n", clean(c.ID))
	return wrapPrint(err)
}
