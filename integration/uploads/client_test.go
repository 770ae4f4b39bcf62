package uploads

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

const (
	comes   = 240 * time.Second // how long something may take that must happen
	answers = 90 * time.Second  // until a call is given up and repeated
	atOnce  = 2                 // parts that the client sends at once
	mib     = 1 << 20
)

// client uploads one file as one does whose connection breaks: it asks what is missing, sends that, and repeats what got no answer.
type client struct {
	api     mixtest.API
	sandbox string
	key     string
	path    string
	content []byte
	whole   string // SHA-256 that it announces; "": none
	policy  string // on conflict

	session session
	sent    atomic.Int64 // bytes of bodies that were read to be sent
	holdAt  int64        // how many of them before it waits for released; 0: it does not
	release chan struct{}
}

// session is a session as the API shows it.
type session struct {
	ID        string `json:"upload_id"`
	Status    string `json:"status"`
	Length    int64  `json:"content_length"`
	Accepted  int64  `json:"accepted_bytes"`
	Reserved  int64  `json:"reserved_staging_bytes"`
	PartSize  int64  `json:"part_size"`
	PartCount int    `json:"part_count"`
	Next      int    `json:"next_part"`
	Published int64  `json:"published_bytes"`
	Missing   []struct {
		First int `json:"first"`
		Last  int `json:"last"`
	} `json:"missing_parts"`
}

func newClient(api mixtest.API, sandbox, name string, size int) *client {
	c := &client{
		api: api, sandbox: sandbox, key: name, path: "/" + name + ".bin", content: make([]byte, size), policy: "error", release: make(chan struct{}),
	}
	seed := sha256.Sum256([]byte(name))
	_, _ = rand.NewChaCha8(seed).Read(c.content) // never fails
	c.whole = digest(c.content)
	return c
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (c *client) base() string { return "/v1/sandboxes/" + c.sandbox + "/uploads" }

// errRefused is an answer that a repetition does not change.
var errRefused = errors.New("refused")

// again repeats a call until it has one of the statuses that are wanted.
func (c *client) again(ctx context.Context, what string, call func(context.Context) (mixtest.Answer, error), into any) error {
	var err error
	if mixtest.Until(comes, func() bool {
		var answer mixtest.Answer
		calling, cancel := context.WithTimeout(ctx, answers)
		defer cancel()
		answer, err = call(calling)
		switch {
		case err != nil:
		case answer.Status == http.StatusOK || answer.Status == http.StatusCreated:
			err = json.Unmarshal(answer.Body, into)
			return true
		case answer.Status == http.StatusUnprocessableEntity || answer.Status == http.StatusBadRequest:
			err = fmt.Errorf("%w: %d %s", errRefused, answer.Status, answer.Body)
			return true
		default:
			err = fmt.Errorf("%s: status %d: %s", what, answer.Status, answer.Body)
		}
		return ctx.Err() != nil
	}) {
		return err
	}
	return fmt.Errorf("%s did not succeed within %s: %w", what, comes, err)
}

// create begins the session, or finds it.
func (c *client) create(ctx context.Context) error {
	ask := map[string]any{
		"kind": "file", "source_kind": "restartable_file", "target_path": c.path, "content_length": len(c.content), "checksum_algorithm": "sha256",
		"conflict": c.policy,
	}
	if c.whole != "" {
		ask["whole_checksum_sha256"] = c.whole
	}
	var made struct {
		Session session `json:"session"`
	}
	err := c.again(ctx, "create", func(ctx context.Context) (mixtest.Answer, error) {
		return c.api.Call(ctx, http.MethodPost, c.base(), map[string]string{"Idempotency-Key": c.key}, ask)
	}, &made)
	c.session = made.Session
	return err
}

// look asks how far the session is.
func (c *client) look(ctx context.Context) error {
	var now session
	err := c.again(ctx, "show", func(ctx context.Context) (mixtest.Answer, error) {
		return c.api.Call(ctx, http.MethodGet, c.base()+"/"+c.session.ID, nil, nil)
	}, &now)
	if err == nil {
		c.session = now
	}
	return err
}

// body counts what is read of it.
type body struct {
	io.Reader

	c *client
}

func (b *body) Read(p []byte) (int, error) {
	if b.c.holdAt > 0 && b.c.sent.Load() >= b.c.holdAt {
		<-b.c.release
	}
	n, err := b.Reader.Read(p)
	b.c.sent.Add(int64(n))
	return n, err
}

// put sends a part once.
func (c *client) put(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	first := int64(number) * c.session.PartSize
	part := c.content[first:min(first+c.session.PartSize, int64(len(c.content)))]
	url := c.api.URL + c.base() + "/" + c.session.ID + "/parts/" + strconv.Itoa(number)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, &body{bytes.NewReader(part), c})
	if err != nil {
		return err
	}
	req.ContentLength, req.Close = int64(len(part)), true
	req.Header.Set("Authorization", "Bearer "+c.api.Key)
	req.Header.Set("X-Checksum-Sha256", digest(part))
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("part %d: status %d: %s", number, resp.StatusCode, said)
	}
	return err
}

// send sends what is missing until nothing is. What fails is missing still.
func (c *client) send(ctx context.Context) error {
	var last error
	var failed error
	if !mixtest.Until(comes, func() bool {
		if failed = c.look(ctx); failed != nil {
			return true
		}
		if len(c.session.Missing) == 0 {
			return true
		}
		sending := pool.New().WithErrors().WithMaxGoroutines(atOnce)
		for _, r := range c.session.Missing {
			for n := r.First; n <= r.Last; n++ {
				sending.Go(func() error { return c.put(ctx, n) })
			}
		}
		last = sending.Wait()
		return false
	}) {
		return fmt.Errorf("parts are missing still: %+v: %w", c.session.Missing, last)
	}
	return failed
}

// complete publishes the session.
func (c *client) complete(ctx context.Context) error {
	var done struct {
		Session session `json:"session"`
	}
	if err := c.again(ctx, "complete", func(ctx context.Context) (mixtest.Answer, error) {
		answer, err := c.api.Call(ctx, http.MethodPost, c.base()+"/"+c.session.ID+"/complete", nil, nil)
		if err == nil && answer.Status == http.StatusConflict && bytes.Contains(answer.Body, []byte("upload_parts_missing")) {
			return answer, c.send(ctx)
		}
		return answer, err
	}, &done); err != nil {
		return err
	}
	c.session = done.Session
	return nil
}

// upload does all of it.
func (c *client) upload(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.create, c.send, c.complete} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// begin uploads while the test goes on; the returned function waits for the end.
func (c *client) begin(ctx context.Context) (ended func() error) {
	done := make(chan error, 1)
	go func() { done <- c.upload(ctx) }()
	return func() error { return <-done }
}
