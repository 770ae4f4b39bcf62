package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// The Validate methods are called by the parser once all flags are read: what they return is a usage error, before
// anything is opened.

// Validate checks the flags of up.
func (c *upCmd) Validate() error {
	return first(c.apiFlags.check(), c.workerFlags.check(), c.aggregatorFlags.check(), c.natsFlags.check(), c.S3.check(), c.sealFlags.check(),
		address("--s3-listen", c.S3Listen), optionalAddress("--nats-listen", c.NATSListen))
}

// Validate checks the flags of api.
func (c *apiCmd) Validate() error {
	if c.Sandboxes != "" {
		if _, err := parseSandboxes(c.Sandboxes); err != nil {
			return err
		}
	}
	return first(c.apiFlags.check(), c.natsFlags.check(), c.S3.check(), c.sealFlags.check())
}

// Validate checks the flags of worker.
func (c *workerCmd) Validate() error {
	return first(c.workerFlags.check(), c.natsFlags.check(), c.S3.check(), c.sealFlags.check())
}

// Validate checks the flags of aggregator.
func (c *aggregatorCmd) Validate() error {
	return first(c.aggregatorFlags.check(), c.natsFlags.check(), c.S3.check())
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (f apiFlags) check() error {
	if !protocol.ValidID(f.Org) {
		return fmt.Errorf("--org %q: must be 1 to 128 letters, digits, '.', '_' and '-', and begin with a letter or digit", f.Org)
	}
	if f.UploadQuota < 1 || f.MaxUpload < 1 {
		return errors.New("--upload-quota and --max-upload: must be 1 or more")
	}
	return first(address("--listen", f.Listen), positive("--max-wait", f.MaxWait), positive("--upload-expiry", f.UploadExpiry))
}

const (
	maxSlots    = 4096
	maxPartSize = 5 << 30
)

func (f workerFlags) check() error {
	if f.Slots < 1 || f.Slots > maxSlots {
		return fmt.Errorf("--slots %d: must be 1 to %d", f.Slots, maxSlots)
	}
	if f.PartThreshold < 1<<20 || f.PartSize < 1<<20 {
		return errors.New("--part-threshold and --part-size: must be 1MiB or more")
	}
	if f.PartSize > maxPartSize {
		return errors.New("--part-size: must be 5GiB or less, which is the largest part that S3 takes")
	}
	if f.MinProgress < 1 {
		return errors.New("--min-progress: must be 1 or more; 1 waits for whoever is not silent")
	}
	if f.SpreadAfter <= 0 {
		return fmt.Errorf("--spread-after %s: must be more than 0", f.SpreadAfter)
	}
	if !protocol.ValidID(f.Pool) {
		return fmt.Errorf("--pool %q: must be 1 to 128 letters, digits, '.', '_' and '-', and begin with a letter or digit", f.Pool)
	}
	if f.Sandboxes != "" {
		if _, err := parseSandboxes(f.Sandboxes); err != nil {
			return err
		}
	}
	return first(positive("--header-timeout", f.HeaderTimeout), positive("--idle-timeout", f.IdleTimeout), positive("--drain", f.Drain))
}

const minAckWait = time.Second

func (f natsFlags) check() error {
	if !slices.Contains([]int{0, 1, 3, 5}, f.Replicas) {
		return fmt.Errorf("--nats-replicas %d: must be 1, 3 or 5, or 0 to keep what there is", f.Replicas)
	}
	if f.AckWait < minAckWait {
		return fmt.Errorf("--ack-wait %s: must be at least %s", f.AckWait, minAckWait)
	}
	if f.URL == "" {
		return nil
	}
	u, err := url.Parse(f.URL)
	if err != nil || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) || u.Host == "" {
		return fmt.Errorf("--nats-url %s: must be nats://host:port, or tls, ws or wss", protocol.RedactURL(f.URL))
	}
	return nil
}

func (f endpointFlags) check() error {
	if (f.AccessKey == "") != (f.SecretKey == "") {
		return errors.New("--s3-access-key and --s3-secret-key: give both or none")
	}
	return nil
}

func (f sealFlags) check() error {
	if f.SealKey == "" {
		return nil
	}
	_, err := f.given()
	return err
}

func positive(flag string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s %s: must be more than 0", flag, d)
	}
	return nil
}

func optionalAddress(flag, value string) error {
	if value == "" {
		return nil
	}
	return address(flag, value)
}

func address(flag, value string) error {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("%s %q: must be host:port: %w", flag, value, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s %q: the port must be a number from 0 to 65535", flag, value)
	}
	return nil
}
