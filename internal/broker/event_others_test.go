package broker_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/notification"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// childDir and childListen have this program be a server, which its parent kills.
const (
	childDir    = "BROKER_TEST_CHILD_DIR"
	childListen = "BROKER_TEST_CHILD_LISTEN"
)

// beServer runs a server until it is killed, or its parent is gone.
func beServer(dir string) {
	server, err := broker.StartServer(broker.ServerConfig{Dir: dir, Listen: os.Getenv(childListen), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// startChild starts a server in a process of its own, on a directory and an address.
func startChild(t *testing.T, dir, listen string) (address string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childListen+"="+listen)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // it may have been killed before
		_ = cmd.Wait()
		_ = in.Close()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "nats://") {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return strings.TrimSpace(line), kill
}

// TestEventsGoOnOverKills kills the server, with SIGKILL, under a reader and a journal: what was acknowledged is there, once and in order.
func TestEventsGoOnOverKills(t *testing.T) {
	t.Parallel()
	const rounds, each = 3, 20
	dir := t.TempDir()
	address, kill := startChild(t, dir, mixtest.FreeAddress(t))
	conn, err := broker.Connect(broker.Config{URL: address, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []broker.Notification
	last := uint64(0)
	for round := range rounds {
		publishEvents(t, conn, org, round*each, each)
		all = append(all, readEvents(t, r, each/2)...)
		if last, err = conn.AppendTrigger(t.Context(), org, last, fmt.Append(nil, round)); err != nil {
			t.Fatal(err)
		}
		kill()
		_, kill = startChild(t, dir, strings.TrimPrefix(address, "nats://"))
		eventually(t, func() bool { return conn.Ready(t.Context()) == nil })
	}
	checkOrder(t, append(all, readEvents(t, r, rounds*each-len(all))...), rounds*each)
	n := 0
	got, err := conn.Triggers(t.Context(), org, func(_ uint64, record []byte) error {
		if string(record) != fmt.Sprint(n) {
			t.Errorf("record %d is %q", n, record)
		}
		n++
		return nil
	})
	if err != nil || got != last || n != rounds {
		t.Errorf("%d records up to %d, want %d up to %d (%v)", n, got, rounds, last, err)
	}
}

// TestMinIOPublishesItself has MinIO publish its notifications to the stream, over JetStream and over core NATS.
func TestMinIOPublishesItself(t *testing.T) {
	t.Parallel()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	storage := miniotest.Start(t)
	storage.Stop()
	address := strings.TrimPrefix(server.URL(), "nats://")
	for name, jetStream := range map[string]string{"JS": "on", "CORE": "off"} {
		set := "MINIO_NOTIFY_NATS_"
		storage.Setenv(set+"ENABLE_"+name+"=on", set+"ADDRESS_"+name+"="+address, set+"JETSTREAM_"+name+"="+jetStream,
			set+"SUBJECT_"+name+"="+protocol.EventSubject(protocol.EventS3, protocol.OrgID("ORG-dev-"+name)))
	}
	storage.Start()
	endpoint, err := url.Parse(storage.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := minio.DefaultTransport(false)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	client, err := minio.New(net.JoinHostPort(endpoint.Hostname(), endpoint.Port()), &minio.Options{
		Creds: credentials.NewStaticV4(storage.AccessKey, storage.SecretKey, ""), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"JS", "CORE"} {
		bucket := storage.NewBucket(t)
		var cfg notification.Configuration
		topic := notification.NewConfig(notification.NewArn("minio", "sqs", "", name, "nats"))
		topic.AddEvents(notification.ObjectCreatedAll)
		cfg.AddQueue(topic)
		if err := client.SetBucketNotification(t.Context(), bucket, cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := client.PutObject(t.Context(), bucket, "a key", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		r, err := conn.Events(t.Context(), protocol.OrgID("ORG-dev-"+name), 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		var body struct {
			Key string `json:"Key"`
		}
		got := readEvents(t, r, 1)
		if err := json.Unmarshal(got[0].Body, &body); err != nil || body.Key != bucket+"/a key" || got[0].Kind != protocol.EventS3 {
			t.Errorf("%s: %s", name, got[0].Body)
		}
	}
}
