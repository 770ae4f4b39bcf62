package broker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/copyfleet/copyfleet/protocol"
)

// PublishUpload stores the news of parts of upload sessions, at most [protocol.PageSize]: one message, one fsync.
func (c *Conn) PublishUpload(ctx context.Context, sender string, reports ...protocol.UploadReport) error {
	bundle, err := json.Marshal(protocol.ReportBundle{Version: protocol.ReportVersion, Worker: sender, Uploads: reports})
	if err != nil {
		return fmt.Errorf("encode the news of parts of uploads: %w", err)
	}
	return c.PublishReports(ctx, bundle)
}

// UploadChanged tells who waits for parts of an upload session that news of them are in KV. It is a hint.
func (c *Conn) UploadChanged(org protocol.OrgID, sandbox protocol.SandboxID, id protocol.UploadID) error {
	if err := c.nc.Publish(protocol.UploadChanged(org, sandbox, id), nil); err != nil {
		return fmt.Errorf("tell of parts of %s: %w", id, classify(err))
	}
	return nil
}

// WatchUpload delivers a value whenever news of an upload session's parts came into KV; what comes while one waits to be read is one. A
// missed one is possible: read the state after subscribing, and again now and then. stop ends it.
func (c *Conn) WatchUpload(org protocol.OrgID, sandbox protocol.SandboxID, id protocol.UploadID) (changes <-chan struct{}, stop func(), err error) {
	changes, stop, err = c.watch(protocol.UploadChanged(org, sandbox, id))
	if err != nil {
		return nil, nil, fmt.Errorf("wait for parts of %s: %w", id, err)
	}
	return changes, stop, nil
}
