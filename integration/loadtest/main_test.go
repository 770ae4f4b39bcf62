package loadtest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mixtest.Runner{M: m}) }

const limit = 240 * time.Second

// fleet is a fleet with the store that it copies in.
type fleet struct {
	*mixtest.Fleet

	store mixtest.Store
}

// raw is how the store is loaded.
func (f *fleet) raw() []object.RawConfig {
	return []object.RawConfig{{Endpoint: f.store.Endpoint, AccessKey: f.store.AccessKey, SecretKey: f.store.SecretKey, Connections: 16}}
}

// config is that of a target on the fleet.
func (f *fleet) config(batch int) target.FleetConfig {
	return target.FleetConfig{
		URL: f.API.URL, Key: f.API.Key, Batch: batch, Connections: 16,
		Store: target.S3Config{
			Endpoints: f.raw(), Bucket: f.Bucket, Prefix: "copyfleet-bench/r1/0/", Payload: workload.NewPayload(1, 0), Verify: true,
		},
	}
}

func newTarget(t *testing.T, cfg target.FleetConfig) *target.Fleet {
	t.Helper()
	f, err := target.NewFleet(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// up is a fleet in one process, on its own S3.
func up(t *testing.T) *fleet {
	t.Helper()
	f, s3, _ := mixtest.StartUp(t)
	return &fleet{f, s3}
}

// batch is what the fleet says of a batch.
type batch struct {
	State protocol.BatchState `json:"state"`
	Total int                 `json:"total"`
}

// batches are the last 200 of the fleet.
func (f *fleet) batches(t *testing.T) []batch {
	t.Helper()
	var list struct {
		Items []batch `json:"items"`
	}
	if err := f.API.Get(t.Context(), "/v1/batches?limit=200", &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// roles is a fleet of processes on a MinIO, without a worker.
func roles(t *testing.T) (f *fleet, api *mixtest.Process) {
	t.Helper()
	server := miniotest.Start(t)
	f = &fleet{mixtest.NewRoles(t, server), mixtest.Store{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey}}
	f.StartNATS(t)
	api = f.Start(t, "api")
	f.Start(t, "aggregator")
	return f, api
}
