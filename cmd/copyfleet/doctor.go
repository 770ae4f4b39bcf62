package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// doctorCmd looks whether everything is as it should be, from here.
type doctorCmd struct {
	clientFlags
	Data string `help:"Data directory of up on this machine, whose disk is looked at if it is there." default:"copyfleet-data" env:"COPYFLEET_DATA"`
}

// The results of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// checked is the result of one check.
type checked struct {
	Check   string `json:"check"`
	Result  string `json:"result"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// doctor makes the checks.
type doctor struct {
	api  *client
	data string
	list []checked
	away bool // the API does not answer, or is not ready
}

const (
	doctorTime = 15 * time.Second // for one call
	// A presigned URL is refused by S3 where the clocks are 15 min apart.
	skewWarn = 5 * time.Second
	skewFail = 5 * time.Minute

	fewFiles  = 4096
	lowSpace  = 1 << 30
	noSpace   = 256 << 20
	slowReply = time.Second
)

// Run checks and tells: 0 if nothing failed, 5 if the API is away or not ready, else 1.
func (c *doctorCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.anonymous()
	if err != nil {
		return err
	}
	d := &doctor{api: api, data: c.Data}
	if d.reach(ctx); !d.away {
		d.key(ctx)
		d.ready(ctx)
	}
	d.machine()
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return d.tell(env)
}

func (d *doctor) add(check, result, message, hint string) {
	d.list = append(d.list, checked{check, result, message, hint})
}

// ask makes one call with a limit of its own, and returns the header of its answer.
func (d *doctor) ask(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, doctorTime, fmt.Errorf("no answer within %s", doctorTime))
	defer cancel()
	return d.api.call(ctx, method, path, nil, in, out)
}

// reach looks whether the API answers, which version it is, and what its clock says.
func (d *doctor) reach(ctx context.Context) {
	var live struct {
		Version string `json:"version"`
	}
	start := time.Now()
	header, err := d.ask(ctx, http.MethodGet, "/healthz", nil, &live)
	took := time.Since(start)
	if err != nil {
		d.away = true
		d.add("api", checkFail, err.Error(), "Start it (copyfleet up), or name another with --url (COPYFLEET_URL).")
		return
	}
	result, hint := checkOK, ""
	if took > slowReply {
		result, hint = checkWarn, "The API or the way to it is slow."
	}
	d.add("api", result, fmt.Sprintf("%s answers in %s", d.api.shown(), took.Round(100*time.Microsecond)), hint)
	if live.Version == version {
		d.add("version", checkOK, "API and command line are both "+version, "")
	} else {
		d.add("version", checkWarn, fmt.Sprintf("the API is %s, this command line %s", live.Version, version), "Use the same version on both sides.")
	}
	d.clock(header, start, took)
}

// clock compares the clocks. The Date of an answer has whole seconds, and was written at some time while we waited.
func (d *doctor) clock(header http.Header, start time.Time, took time.Duration) {
	theirs, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		d.add("clock", checkWarn, "the API does not tell the time", "Something between here and the API removes the header Date.")
		return
	}
	skew := skewOf(theirs, start, took)
	switch {
	case skew > skewFail || skew < -skewFail:
		d.add("clock", checkFail, fmt.Sprintf("the clocks are %s apart", span(skew.Abs())), "Presigned URLs fail with wrong clocks; set both by NTP.")
	case skew > skewWarn || skew < -skewWarn:
		d.add("clock", checkWarn, fmt.Sprintf("the clocks are %s apart", span(skew.Abs())), "Set both by NTP.")
	default:
		d.add("clock", checkOK, "the clocks agree", "")
	}
}

// skewOf is by how much the other clock is ahead at least, given what cannot be known.
func skewOf(theirs, start time.Time, took time.Duration) time.Duration {
	earliest, latest := start.Truncate(time.Second), start.Add(took)
	switch {
	case theirs.Before(earliest):
		return theirs.Sub(earliest)
	case theirs.After(latest):
		return theirs.Sub(latest)
	}
	return 0
}

// key finds out what the key may do, by calls that change nothing.
func (d *doctor) key(ctx context.Context) {
	if d.api.key == "" {
		d.add("key", checkFail, "there is no API key", "--api-key (COPYFLEET_API_KEY); up keeps its own in the file api-key of its data directory.")
		return
	}
	_, err := d.ask(ctx, http.MethodGet, "/v1/keys?"+url.Values{"org": {"-"}}.Encode(), nil, nil)
	if err == nil {
		d.add("key", checkOK, "valid, role admin", "")
		return
	}
	p := refused(err)
	switch {
	case p == nil:
		d.add("key", checkFail, err.Error(), "")
		return
	case p.Status != http.StatusForbidden:
		d.add("key", checkFail, p.Error(), problemHints[p.Code])
		return
	}
	// An empty request is refused for what it lacks by those who let the key in.
	if _, err = d.ask(ctx, http.MethodPost, "/v1/presign", struct{}{}, nil); refused(err) != nil && refused(err).Status == http.StatusForbidden {
		d.add("key", checkWarn, "valid, role read: it may not submit", "An admin makes others: copyfleet keys create")
		return
	}
	d.add("key", checkOK, "valid, role copy", "")
}

// ready tells each thing that the API depends on.
func (d *doctor) ready(ctx context.Context) {
	var answer struct {
		Checks []struct {
			Name    string `json:"name"`
			OK      bool   `json:"ok"`
			Message string `json:"message"`
		} `json:"checks"`
	}
	_, err := d.ask(ctx, http.MethodGet, "/readyz", nil, &answer)
	if p := refused(err); p != nil && len(p.Checks) > 0 {
		answer.Checks = p.Checks
	} else if err != nil {
		d.away = true
		d.add("ready", checkFail, err.Error(), "")
		return
	}
	for _, c := range answer.Checks {
		if c.OK {
			d.add(c.Name, checkOK, "ready", "")
			continue
		}
		d.away = true
		d.add(c.Name, checkFail, c.Message, readyHints[c.Name])
	}
	if p := refused(err); p != nil { // it names those that failed only
		d.add("ready", checkFail, p.Message, "")
	}
}

var readyHints = map[string]string{
	"nats":      "Is NATS running, with JetStream? --nats-url of the API names it.",
	"s3":        "Is the S3 endpoint running, and are the keys right? --s3-endpoint of the API names it.",
	"space":     "Make room on the disk of the data directory, or lower --min-free.",
	"sandboxes": "Make the bucket that --sandboxes names.",
	"registry":  "It comes back with NATS.",
	"rules":     "They come back with NATS, whose streams CF_EVENTS and CF_TRIGGERS and bucket cf-rules hold them and their events.",
}

// machine looks at this machine.
func (d *doctor) machine() {
	now, most, err := openFiles()
	switch {
	case err != nil:
		d.add("files", checkWarn, "the limit of open files is not known: "+err.Error(), "")
	case now < fewFiles:
		d.add("files", checkWarn, fmt.Sprintf("a process may open %d files here (%d at most)", now, most),
			"Raise it where the fleet runs: ulimit -n 65536, or LimitNOFILE= of systemd.")
	default:
		d.add("files", checkOK, fmt.Sprintf("a process may open %d files here", now), "")
	}
	if err := d.disk(); err != nil {
		d.add("disk", checkWarn, err.Error(), "")
	}
}

func (d *doctor) disk() error {
	dir, err := filepath.Abs(d.data)
	if err != nil {
		return err //nolint:wrapcheck // names what it is about
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil // the fleet is on another machine
	}
	free, err := freeSpace(dir)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s free for %s", size(int64(min(free, 1<<62))), dir)
	switch {
	case free < noSpace:
		d.add("disk", checkFail, text, "Make room: below --min-free nothing is accepted.")
	case free < lowSpace:
		d.add("disk", checkWarn, text, "Make room soon.")
	default:
		d.add("disk", checkOK, text, "")
	}
	return nil
}

// tell prints the results, and is an error if one failed.
func (d *doctor) tell(env *environment) error {
	found := map[string]int{checkOK: 0, checkWarn: 0, checkFail: 0}
	term := terminalOf(env.stdout)
	for _, c := range d.list {
		found[c.Result]++
		if env.json {
			if err := printJSON(env, c); err != nil {
				return err
			}
			continue
		}
		text := fmt.Sprintf("%s  %-8s  %s\n", term.paint(stateColor(c.Result), fmt.Sprintf("%-4s", c.Result)), clean(c.Check), clean(c.Message))
		if c.Hint != "" {
			text += "                hint: " + clean(c.Hint) + "\n"
		}
		if _, err := fmt.Fprint(env.stdout, text); err != nil {
			return wrapPrint(err)
		}
	}
	if env.json {
		if err := printJSON(env, found); err != nil {
			return err
		}
	}
	switch {
	case found[checkFail] == 0:
		return nil
	case d.away:
		return exitWith(exitTemporary, "the fleet is not ready")
	}
	return exitWith(exitFailed, "checks that failed: %d", found[checkFail])
}
