package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// batchOptions are the flags that say how a batch is to be run. A number that is not given is nil: 0 is one that is refused.
type batchOptions struct {
	Label             string   `help:"Your words for the batch; list finds it by them." placeholder:"TEXT"`
	Lane              string   `help:"Lane: bulk (the default), or interactive for a few items that somebody waits for, 1,000 at most." enum:"bulk,interactive," default:"" placeholder:"LANE"`
	Attempts          *int     `help:"Most attempts of an item, 1 to 20." placeholder:"N"`
	Rate              *float64 `help:"Items started a second, at most." placeholder:"N"`
	Canary            *int     `help:"Run so many items, then pause and wait for a resume." placeholder:"N"`
	MaxFailed         string   `help:"Stop once more items than this have failed: a number, or a share such as 5%." name:"max-failed" placeholder:"N|N%"`
	Webhook           string   `help:"URL that is told of the end." placeholder:"URL"`
	WebhookSecretFile string   `help:"File with the secret that signs the notice; or the variable COPYFLEET_WEBHOOK_SECRET. No flag takes the secret itself: others could see it." name:"webhook-secret-file" placeholder:"FILE"`
}

// webhookSecretVariable names the secret that signs the notice of a batch's end.
const webhookSecretVariable = "COPYFLEET_WEBHOOK_SECRET" //nolint:gosec // a name, not a secret

const maxSecret = 4 << 10

func (o *batchOptions) secret() (string, error) {
	if o.WebhookSecretFile == "" {
		return os.Getenv(webhookSecretVariable), nil
	}
	data, err := os.ReadFile(o.WebhookSecretFile)
	if err == nil && len(data) > maxSecret {
		err = fmt.Errorf("%s is too large for a secret", o.WebhookSecretFile)
	}
	if err != nil {
		return "", exitWith(exitUsage, "--webhook-secret-file: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// check finds what is wrong before anything is sent.
func (o *batchOptions) check() error {
	switch {
	case o.Attempts != nil && (*o.Attempts < 1 || *o.Attempts > 20):
		return fmt.Errorf("--attempts %d: must be 1 to 20", *o.Attempts)
	case o.Rate != nil && !(*o.Rate > 0): // nor is what is no number
		return fmt.Errorf("--rate %g: must be more than 0", *o.Rate)
	case o.Canary != nil && *o.Canary < 1:
		return fmt.Errorf("--canary %d: must be at least 1", *o.Canary)
	case o.WebhookSecretFile != "" && o.Webhook == "":
		return errors.New("--webhook-secret-file needs --webhook")
	}
	return o.checkMaxFailed()
}

func (o *batchOptions) checkMaxFailed() error {
	if o.MaxFailed == "" {
		return nil
	}
	if share, ok := strings.CutSuffix(o.MaxFailed, "%"); ok {
		if n, err := strconv.ParseFloat(share, 64); err != nil || n <= 0 || n > 100 {
			return fmt.Errorf("--max-failed %s: a share must be above 0%% and at most 100%%", o.MaxFailed)
		}
		return nil
	}
	if n, err := strconv.ParseFloat(o.MaxFailed, 64); err != nil || n < 0 || n >= 1 && n != float64(int(n)) {
		return fmt.Errorf("--max-failed %s: must be a number of items, or a share such as 5%%", o.MaxFailed)
	}
	return nil
}

// each calls add with the options that are given, under their names in the API.
func (o *batchOptions) each(add func(name string, value any)) {
	if o.Label != "" {
		add("label", o.Label)
	}
	if o.Lane != "" {
		add("lane", o.Lane)
	}
	if o.Attempts != nil {
		add("attempts", *o.Attempts)
	}
	if o.Rate != nil {
		add("rate", *o.Rate)
	}
	if o.Canary != nil {
		add("canary", *o.Canary)
	}
	if o.MaxFailed != "" {
		if json.Valid([]byte(o.MaxFailed)) {
			add("max_failed", json.RawMessage(o.MaxFailed))
		} else {
			add("max_failed", o.MaxFailed)
		}
	}
}

// query returns the options as a body that is not JSON has them beside it.
func (o *batchOptions) query(q url.Values, header http.Header) error {
	o.each(func(name string, value any) {
		if raw, ok := value.(json.RawMessage); ok {
			value = string(raw)
		}
		q.Set(name, fmt.Sprint(value))
	})
	if o.Webhook == "" {
		return nil
	}
	q.Set("webhook_url", o.Webhook)
	secret, err := o.secret()
	if secret != "" {
		header.Set("Copyfleet-Webhook-Secret", secret)
	}
	return err
}

// members returns the options as members of a JSON body.
func (o *batchOptions) members(into map[string]any) error {
	o.each(func(name string, value any) { into[name] = value })
	if o.Webhook == "" {
		return nil
	}
	secret, err := o.secret()
	webhook := map[string]string{"url": o.Webhook}
	if secret != "" {
		webhook["secret"] = secret
	}
	into["webhook"] = webhook
	return err
}
