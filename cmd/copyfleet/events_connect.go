package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// eventsConnectCmd talks to an S3 store, not to the API.
type eventsConnectCmd struct {
	endpointFlags
	Bucket string   `help:"The bucket that is to tell of its objects." placeholder:"BUCKET"`
	Prefix string   `help:"Only of objects whose keys begin so." placeholder:"TEXT"`
	Suffix string   `help:"Only of objects whose keys end so." placeholder:"TEXT"`
	Event  []string `help:"What is told, such as s3:ObjectRemoved:*. May be repeated. Default: s3:ObjectCreated:*." placeholder:"NAME" sep:"none"`
	ARN    string   `help:"Whom the store tells: the ARN of a notification target that it has." name:"arn" placeholder:"ARN"`
	Remove bool     `help:"Take the notification away."`

	PrintMinioEnv bool   `help:"Print the environment variables that make the fleet a notification target of MinIO, and its ARN." name:"print-minio-env"`
	Target        string `help:"nats: MinIO publishes to the NATS of the fleet. webhook: it calls the API." enum:"nats,webhook" default:"nats"`
	TargetID      string `help:"The target's name within MinIO." name:"target-id" default:"COPYFLEET"`
	NATSURL       string `help:"The NATS of the fleet, as MinIO reaches it." name:"nats-url" default:"nats://127.0.0.1:4222" env:"COPYFLEET_NATS_URL" placeholder:"URL"`
	URL           string `help:"The API of the fleet, as MinIO reaches it." default:"http://127.0.0.1:7400" env:"COPYFLEET_URL"`
	Org           string `help:"The org that the events are for. A webhook's is that of its API key." default:"ORG-dev" env:"COPYFLEET_ORG"`
	QueueDir      string `help:"Directory of MinIO's, in which it keeps what could not be sent, until it can be." name:"queue-dir" placeholder:"DIR"`
}

// Help is shown by --help.
func (*eventsConnectCmd) Help() string {
	return `MinIO first needs the fleet as a notification target. These print its settings; MinIO must be started with them:

  copyfleet events connect --print-minio-env
  copyfleet events connect --print-minio-env --target webhook --url http://fleet:7400

Then every bucket is told whom to tell. What the bucket has beside that stays; repeating the command changes nothing.

  copyfleet events connect --s3-endpoint http://127.0.0.1:9000 --bucket incoming --prefix raw/ --arn arn:minio:sqs::COPYFLEET:nats

The S3 that "copyfleet up" brings tells of its objects by itself.`
}

// arnPattern is what names a notification target; the store knows which there are.
var arnPattern = regexp.MustCompile(`^arn:[a-z0-9-]+:[a-z]+:[^:]*:[^:]+:[^:]+$`)

var targetIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate implements kong's check.
func (c *eventsConnectCmd) Validate() error {
	if c.PrintMinioEnv {
		return first(c.checkTarget(), c.check())
	}
	switch {
	case c.Bucket == "" || c.ARN == "":
		return errors.New("--bucket and --arn are needed, or --print-minio-env")
	case protocol.BucketFault(c.Bucket) != "":
		return fmt.Errorf("--bucket %s: %s", c.Bucket, protocol.BucketFault(c.Bucket))
	case !arnPattern.MatchString(c.ARN):
		return fmt.Errorf("--arn %s: must be like arn:minio:sqs::COPYFLEET:nats; --print-minio-env prints it", c.ARN)
	}
	return c.check()
}

func (c *eventsConnectCmd) checkTarget() error {
	if !targetIDPattern.MatchString(c.TargetID) {
		return fmt.Errorf("--target-id %s: must be letters, digits, '_' and '-'", c.TargetID)
	}
	if !protocol.ValidID(c.Org) {
		return fmt.Errorf("--org %q: must be 1 to 128 letters, digits, '.', '_' and '-', and begin with a letter or digit", c.Org)
	}
	raw, flag, schemes := c.NATSURL, "--nats-url", []string{"nats", "tls"}
	if c.Target == "webhook" {
		raw, flag, schemes = c.URL, "--url", []string{"http", "https"}
	}
	if u, err := url.Parse(raw); err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" {
		return fmt.Errorf("%s %s: must be %s://host:port", flag, protocol.RedactURL(raw), strings.Join(schemes, ":// or "))
	}
	return nil
}

// Run connects.
func (c *eventsConnectCmd) Run(ctx context.Context, env *environment) error {
	if c.PrintMinioEnv {
		return c.printEnv(env)
	}
	objects, client, err := s3Flags{endpointFlags: c.endpointFlags}.objects(c.Endpoint, false, workerFlags{})
	if err != nil {
		return err
	}
	defer client.Close()
	defer objects.Close()
	done, err := c.change(ctx, objects)
	if err != nil {
		return c.storeFailure(err)
	}
	if env.json {
		return printJSON(env, map[string]any{"bucket": c.Bucket, "arn": c.ARN, "result": done})
	}
	text := "%s: s3://%s tells %s\n"
	if c.Remove {
		text = "%s: the notification of s3://%s to %s\n"
	}
	return printf(env, text, done, clean(c.Bucket+"/"+c.Prefix+"…"+c.Suffix), clean(c.ARN))
}

// change adds or removes, and says which.
func (c *eventsConnectCmd) change(ctx context.Context, objects *object.Store) (done string, err error) {
	n := object.BucketNotification{ARN: c.ARN, Events: c.Event, Prefix: c.Prefix, Suffix: c.Suffix}
	if c.Remove {
		removed, err := objects.RemoveNotification(ctx, c.Bucket, n)
		if removed > 0 {
			return "removed", err
		}
		return "was not there", err
	}
	added, err := objects.AddNotification(ctx, c.Bucket, n)
	if added {
		return "connected", err
	}
	return "was connected", err
}

// storeFailure is the error of a store with the exit code that it has for commands.
func (c *eventsConnectCmd) storeFailure(err error) error {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return err
	}
	code, hint := exitTemporary, e.Hint
	switch e.Class {
	case storage.NotFound:
		code = exitNotFound
	case storage.Denied:
		code = exitDenied
	case storage.Invalid, storage.Conflict:
		code = exitUsage
		if hint == "" {
			hint = "MinIO knows " + c.ARN + " once it was started with what --print-minio-env prints."
			if len(c.Event) > 0 {
				hint += " Events: " + strings.Join(c.Event, ", ") + "."
			}
		}
	default:
	}
	return &exitError{code: code, reason: e.Code, hint: hint, err: err}
}

// printEnv prints what MinIO is to be started with.
func (c *eventsConnectCmd) printEnv(env *environment) error {
	settings := c.natsTarget()
	if c.Target == "webhook" {
		settings = c.webhookTarget()
	}
	if c.QueueDir != "" {
		settings = append(settings, [2]string{"QUEUE_DIR", c.QueueDir})
	}
	arn := "arn:minio:sqs::" + c.TargetID + ":" + c.Target
	if env.json {
		all := map[string]string{}
		for _, s := range settings {
			all[c.variable(s[0])] = s[1]
		}
		return printJSON(env, map[string]any{"env": all, "arn": arn})
	}
	l := &lines{}
	for _, s := range settings {
		l.line(c.variable(s[0]) + "=" + s[1])
	}
	if err := l.write(env.stdout); err != nil {
		return err
	}
	env.note("the ARN of this target is " + arn)
	return nil
}

func (c *eventsConnectCmd) variable(name string) string {
	return "MINIO_NOTIFY_" + strings.ToUpper(c.Target) + "_" + name + "_" + c.TargetID
}

// natsTarget has MinIO publish to the stream of events, and wait until that has it.
func (c *eventsConnectCmd) natsTarget() [][2]string {
	u, err := url.Parse(c.NATSURL)
	if err != nil { // it was checked
		u = &url.URL{}
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "4222")
	}
	settings := [][2]string{
		{"ENABLE", "on"}, {"ADDRESS", host}, {"SUBJECT", protocol.EventSubject(protocol.EventS3, protocol.OrgID(c.Org))}, {"JETSTREAM", "on"},
	}
	if u.Scheme == "tls" {
		settings = append(settings, [2]string{"TLS", "on"})
	}
	if password, both := u.User.Password(); both {
		settings = append(settings, [2]string{"USERNAME", u.User.Username()}, [2]string{"PASSWORD", password})
	} else if token := u.User.Username(); token != "" {
		settings = append(settings, [2]string{"TOKEN", token})
	}
	return settings
}

// webhookTarget has MinIO call the API. The key is left to the reader: what a command prints ends up in logs.
func (c *eventsConnectCmd) webhookTarget() [][2]string {
	return [][2]string{{"ENABLE", "on"}, {"ENDPOINT", strings.TrimRight(c.URL, "/") + "/v1/events/s3"}, {"AUTH_TOKEN", "YOUR_API_KEY"}}
}
