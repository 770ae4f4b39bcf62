package producer

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// Bounds of the options of a batch.
const (
	maxAttempts = 20
	maxLabel    = 256 // bytes
	maxSecret   = 256 // bytes, of a webhook
	maxRate     = 1e6 // items/s
	// maxInteractive bounds the items of a batch in the interactive lane: more would stand before those that somebody waits for.
	maxInteractive = 1000
)

// secretHeader carries the secret of a webhook where the options are in the query, which ends up in logs.
const secretHeader = "Copyfleet-Webhook-Secret" //nolint:gosec // the name of a header

// optionMembers are the options of a batch; defaultMembers those that stand in for what items leave out.
var (
	optionMembers  = []string{"label", "lane", "attempts", "rate", "canary", "max_failed", "webhook"}
	defaultMembers = []string{"sandbox", "path", "bucket", "prefix", "conflict", "digest"}
)

// options say how a batch is to be run, as its caller gave them.
type options struct {
	label    string
	lane     protocol.Lane
	run      protocol.Options // without the webhook
	webhook  *protocol.WebhookTarget
	defaults defaults
}

// parseOptions validates the members of v that are options. It does not look at others.
func parseOptions(v value, p *problems) options {
	o := options{lane: protocol.Bulk}
	o.label, _ = optionalString(v, "", "label", p)
	if len(o.label) > maxLabel {
		p.add("/label", faultTooLong, "A label may have 256 bytes at most.")
	} else if hasControl(o.label) {
		p.add("/label", faultControl, "A label must not hold control characters.")
	}
	switch lane, ok := optionalString(v, "", "lane", p); {
	case !ok || lane == "" || lane == string(protocol.Bulk):
	case lane == string(protocol.Interactive):
		o.lane = protocol.Interactive
	default:
		p.add("/lane", faultChoice, "The lane is bulk or interactive.")
	}
	o.run.Attempts = int(optionalInt(v, "", "attempts", 0, 1, maxAttempts, p))
	o.run.Canary = int(optionalInt(v, "", "canary", 0, 1, limitMaxItems, p))
	o.run.Rate = rate(v.get("rate"), p)
	o.run.MaxFailed = threshold(v.get("max_failed"), p)
	o.webhook = webhook(v.get("webhook"), p)
	o.defaults = parseDefaults(v, p)
	return o
}

// crowds says that a batch of so many items does not belong into the lane; nil: it may run there.
func crowds(lane protocol.Lane, items int) *Problem {
	if lane != protocol.Interactive || items <= maxInteractive {
		return nil
	}
	var p problems
	p.add("/lane", faultTooMany, "The interactive lane takes "+itoa(maxInteractive)+" items of a batch at most; for more use bulk, the default.")
	return p.problem(CodeInvalidRequest)
}

func rate(v value, p *problems) float64 {
	switch {
	case v.absent():
		return 0
	case v.kind != jsontext.KindNumber:
		p.add("/rate", faultWrongType, "This must be a number of items a second, it is "+v.kindName()+".")
		return 0
	}
	n, err := strconv.ParseFloat(v.text, 64)
	if err != nil || !(n > 0) || n > maxRate {
		p.add("/rate", faultOutOfRange, "The rate must be above 0 and at most 1000000 items a second.")
		return 0
	}
	return n
}

// threshold reads max_failed: a count such as 5, or a share such as "5%" or 0.05.
func threshold(v value, p *problems) protocol.Threshold {
	switch {
	case v.absent():
		return protocol.Threshold{}
	case v.kind == jsontext.KindString && strings.HasSuffix(v.text, "%"):
		n, err := strconv.ParseFloat(strings.TrimSuffix(v.text, "%"), 64)
		if err == nil && n >= 0 && n <= 100 {
			return protocol.Threshold{Given: true, Share: n / 100}
		}
	case v.kind == jsontext.KindNumber:
		if n, err := strconv.ParseInt(v.text, 10, 32); err == nil && n >= 0 {
			return protocol.Threshold{Given: true, Count: int(n)}
		}
		if n, err := strconv.ParseFloat(v.text, 64); err == nil && n > 0 && n < 1 {
			return protocol.Threshold{Given: true, Share: n}
		}
	default:
		p.add("/max_failed", faultWrongType, `This must be a number, or a share such as "5%".`)
		return protocol.Threshold{}
	}
	p.add("/max_failed", faultOutOfRange, `This must be a whole number from 0, a share such as "5%", or a fraction between 0 and 1.`)
	return protocol.Threshold{}
}

func webhook(v value, p *problems) *protocol.WebhookTarget {
	if v.absent() || !object(v, "/webhook", p, "url", "secret") {
		return nil
	}
	target := &protocol.WebhookTarget{URL: checked(v, "/webhook", "url", remoteURL, p)}
	target.Secret, _ = optionalString(v, "/webhook", "secret", p)
	switch {
	case len(target.Secret) > maxSecret:
		p.add("/webhook/secret", faultTooLong, "A secret may have 256 bytes at most.")
	case hasControl(target.Secret):
		p.add("/webhook/secret", faultControl, "A secret must not hold control characters.")
	}
	return target
}

func parseDefaults(v value, p *problems) defaults {
	var d defaults
	if name, ok := optionalString(v, "", "sandbox", p); ok && name != "" {
		if d.sandbox = protocol.SandboxID(name); !protocol.ValidID(name) {
			p.add("/sandbox", faultNoSandbox, noSuchSandbox)
		}
	}
	if dir, ok := optionalString(v, "", "path", p); ok {
		clean, message := directory(dir)
		if d.path = clean; message != "" {
			p.add("/path", faultPath, message)
		}
	}
	if bucket, ok := optionalString(v, "", "bucket", p); ok && bucket != "" {
		if d.bucket = bucket; bucketFault(bucket) != "" {
			p.add("/bucket", faultBucket, bucketFault(bucket))
		}
	}
	if prefix, ok := optionalString(v, "", "prefix", p); ok && prefix != "" {
		if message := prefixFault(prefix); message != "" {
			p.add("/prefix", faultKey, message)
		}
		if d.prefix = wholeSegments(prefix); d.bucket == "" {
			p.add("/prefix", faultUnexpected, "A prefix belongs to a bucket, which is not given.")
		}
	}
	d.conflict = oneOf(v, "", "conflict", conflictPolicies, p)
	d.digest = oneOf(v, "", "digest", digestNames, p)
	return d
}

// seal returns the options as they are kept: the webhook, which is a credential, sealed.
func (o *options) seal(sealer *protocol.Sealer, org protocol.OrgID, batch protocol.BatchID) (protocol.Options, error) {
	run := o.run
	if o.webhook == nil {
		return run, nil
	}
	text, err := json.Marshal(o.webhook)
	if err != nil {
		return run, fmt.Errorf("seal the webhook of %s: %w", batch, err)
	}
	run.Webhook = &protocol.Webhook{Sealed: sealer.SealText(org, batch, string(text)), Shown: protocol.RedactURL(o.webhook.URL)}
	return run, nil
}

// queried is what the query and the headers of a call say.
type queried struct {
	plan      bool
	value     value  // the options
	canonical string // what tells one set of options from another
}

// queryOptions reads the options of a body that is no JSON document from the query. A number is one if it looks like one.
func queryOptions(query url.Values, h http.Header) (queried, *Problem) {
	var (
		out  queried
		p    problems
		list []member
	)
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if len(query[name]) > 1 {
			p.add(pointer("", name), faultTooMany, "This query parameter is given more than once.")
		}
		switch text := query.Get(name); name {
		case "plan":
			if out.plan = text == "true"; !out.plan && text != "false" {
				p.add("/plan", faultChoice, "plan is true or false.")
			}
		case "webhook_url":
		case "webhook_secret":
			p.add("/webhook_secret", faultSecretInQuery, "A secret must not stand in a URL; send it in the header "+secretHeader+".")
		default:
			list = append(list, member{name, queryOption(name, text, &p)})
		}
	}
	hook, secret := query.Get("webhook_url"), h.Get(secretHeader)
	switch {
	case hook != "":
		list = append(list, member{"webhook", objectValue(member{"url", textValue(hook)}, member{"secret", textValue(secret)})})
	case secret != "":
		p.add("/webhook_url", faultMissing, "The header "+secretHeader+" belongs to a webhook_url, which is not given.")
	}
	if p.total > 0 {
		return out, p.problem(CodeInvalidRequest)
	}
	query.Del("plan")
	out.value = objectValue(list...)
	out.canonical = query.Encode() + "\x00" + secret
	return out, nil
}

// queryOption is an option of a query as it would stand in a document.
func queryOption(name, text string, p *problems) value {
	switch {
	case name == "label" || slices.Contains(defaultMembers, name):
		return textValue(text)
	case name != "webhook" && slices.Contains(optionMembers, name):
		return numberValue(text)
	}
	known := slices.Concat([]string{"plan", "webhook_url"}, optionMembers[:len(optionMembers)-1], defaultMembers)
	p.add(pointer("", name), faultUnknown, "There is no such query parameter; known are "+strings.Join(known, ", ")+".")
	return value{}
}
