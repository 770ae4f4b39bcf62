package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// orgsCmd says which buckets an org may use.
type orgsCmd struct {
	Grant  orgsGrantCmd  `cmd:"" help:"Let an org use a bucket, or what is below a prefix in it."`
	Revoke orgsRevokeCmd `cmd:"" help:"Take a grant back."`
	List   orgsListCmd   `cmd:"" help:"List the grants of an org, or all orgs."`
}

type orgsGrantCmd struct {
	clientFlags
	Org    string `arg:"" help:"The org."`
	Bucket string `arg:"" help:"The bucket, with /PREFIX for a part of it." name:"bucket[/prefix]"`
}

type orgsRevokeCmd struct {
	clientFlags
	Org    string `arg:"" help:"The org."`
	Bucket string `arg:"" help:"The bucket, with /PREFIX as it was granted." name:"bucket[/prefix]"`
}

type orgsListCmd struct {
	clientFlags
	Org string `arg:"" optional:"" help:"The org; without it, all orgs."`
}

// grant is the body of a grant.
type grant struct {
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix,omitempty"`
}

func parseGrant(arg string) grant {
	bucket, prefix, _ := strings.Cut(arg, "/")
	return grant{Bucket: bucket, Prefix: prefix}
}

func grantsPath(org string) string { return "/v1/orgs/" + url.PathEscape(org) + "/grants" }

// Run grants.
func (c *orgsGrantCmd) Run(ctx context.Context, env *environment) error {
	return changeGrant(ctx, env, c.clientFlags, http.MethodPut, c.Org, c.Bucket, "granted")
}

// Run revokes.
func (c *orgsRevokeCmd) Run(ctx context.Context, env *environment) error {
	return changeGrant(ctx, env, c.clientFlags, http.MethodDelete, c.Org, c.Bucket, "revoked")
}

func changeGrant(ctx context.Context, env *environment, flags clientFlags, method, org, bucket, done string) error {
	api, err := flags.client()
	if err != nil {
		return err
	}
	g := parseGrant(bucket)
	if _, err := api.call(ctx, method, grantsPath(org), nil, g, nil); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, map[string]any{"org": org, "bucket": g.Bucket, "prefix": g.Prefix, "result": done})
	}
	_, err = fmt.Fprintf(env.stdout, "%s: %s to %s\n", done, bucket, org)
	return wrapPrint(err)
}

// Run lists.
func (c *orgsListCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Org == "" {
		return listOrgs(ctx, env, api)
	}
	var answer struct {
		Grants []json.RawMessage `json:"grants"`
	}
	if err := api.get(ctx, grantsPath(c.Org), nil, &answer); err != nil {
		return err
	}
	now, t := time.Now(), &table{Header: []string{"BUCKET", "PREFIX", "GRANTED"}}
	for _, raw := range answer.Grants {
		if env.json {
			if err := printJSON(env, raw); err != nil {
				return err
			}
			continue
		}
		var g struct {
			grant

			Created time.Time `json:"created"`
		}
		if err := json.Unmarshal(raw, &g); err != nil {
			return notPromised(err)
		}
		t.Add(g.Bucket, g.Prefix, ago(g.Created, now))
	}
	return listed(env, t, len(answer.Grants), "", "grants")
}

func listOrgs(ctx context.Context, env *environment, api *client) error {
	var answer struct {
		Orgs []json.RawMessage `json:"orgs"`
	}
	if err := api.get(ctx, "/v1/orgs", nil, &answer); err != nil {
		return err
	}
	t := &table{Header: []string{"ORG", "KEYS", "SANDBOXES", "GRANTS"}, Right: map[int]bool{1: true, 2: true, 3: true}}
	for _, raw := range answer.Orgs {
		if env.json {
			if err := printJSON(env, raw); err != nil {
				return err
			}
			continue
		}
		var o struct {
			ID        string `json:"id"`
			Keys      int    `json:"keys"`
			Sandboxes int    `json:"sandboxes"`
			Grants    int    `json:"grants"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return notPromised(err)
		}
		t.Add(o.ID, number(o.Keys), number(o.Sandboxes), number(o.Grants))
	}
	return listed(env, t, len(answer.Orgs), "", "orgs")
}
