package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

func TestMinioEnvironment(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args []string
		want []string
		arn  string
	}{
		{[]string{"--nats-url", "nats://127.0.0.1", "--org", "ORG.2"}, []string{
			"MINIO_NOTIFY_NATS_ENABLE_COPYFLEET=on", "MINIO_NOTIFY_NATS_ADDRESS_COPYFLEET=127.0.0.1:4222",
			"MINIO_NOTIFY_NATS_SUBJECT_COPYFLEET=copyfleet.events.s3.ORG=2e2", "MINIO_NOTIFY_NATS_JETSTREAM_COPYFLEET=on",
		}, "arn:minio:sqs::COPYFLEET:nats"},
		{[]string{"--nats-url", "tls://u:p@nats.example.com:4333", "--queue-dir", "/q", "--target-id", "a"}, []string{
			"MINIO_NOTIFY_NATS_ADDRESS_a=nats.example.com:4333", "MINIO_NOTIFY_NATS_TLS_a=on", "MINIO_NOTIFY_NATS_USERNAME_a=u",
			"MINIO_NOTIFY_NATS_PASSWORD_a=p", "MINIO_NOTIFY_NATS_QUEUE_DIR_a=/q",
		}, "arn:minio:sqs::a:nats"},
		{[]string{"--nats-url", "nats://t0ken@[::1]:4222"}, []string{"MINIO_NOTIFY_NATS_ADDRESS_COPYFLEET=[::1]:4222", "MINIO_NOTIFY_NATS_TOKEN_COPYFLEET=t0ken"}, ""},
		{[]string{"--target", "webhook", "--url", "https://fleet/"}, []string{
			"MINIO_NOTIFY_WEBHOOK_ENABLE_COPYFLEET=on", "MINIO_NOTIFY_WEBHOOK_ENDPOINT_COPYFLEET=https://fleet/v1/events/s3",
			"MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_COPYFLEET=YOUR_API_KEY",
		}, "arn:minio:sqs::COPYFLEET:webhook"},
	} {
		exit, out, told := command(t, append([]string{"events", "connect", "--print-minio-env"}, row.args...)...)
		lines := strings.Split(out, "\n")
		for _, want := range row.want {
			if !slices.Contains(lines, want) {
				t.Errorf("%q: %s is missing in\n%s", row.args, want, out)
			}
		}
		if exit != exitOK || !strings.Contains(told, row.arn) {
			t.Errorf("%q: %d %s", row.args, exit, told)
		}
	}
	for _, wrong := range [][]string{
		{"--nats-url", "http://u:secret@x"}, {"--target-id", "a b"}, {"--org", "a b"}, {"--target", "webhook", "--url", "nats://x"}, {"--target", "odd"},
	} {
		exit, out, told := command(t, append([]string{"events", "connect", "--print-minio-env"}, wrong...)...)
		if exit != exitUsage || out != "" || strings.Contains(told, "secret") {
			t.Errorf("%q: %d %s%s", wrong, exit, out, told)
		}
	}
}

// A real MinIO that was started with the printed environment knows the printed ARN.
func TestBucketIsConnected(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer api.Close()
	_, printed, _ := command(t, "events", "connect", "--print-minio-env", "--json", "--target", "webhook", "--url", api.URL)
	var settings struct {
		Env map[string]string `json:"env"`
		ARN string            `json:"arn"`
	}
	if err := json.Unmarshal([]byte(printed), &settings); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	store := miniotest.Start(t)
	store.Stop()
	for name, value := range settings.Env {
		store.Setenv(name + "=" + value)
	}
	store.Start()
	bucket := store.NewBucket(t)
	connect := func(want int, says string, more ...string) {
		t.Helper()
		args := []string{"events", "connect", "--s3-endpoint", store.Endpoint, "--s3-access-key", store.AccessKey, "--s3-secret-key", store.SecretKey,
			"--bucket", bucket, "--arn", settings.ARN}
		if exit, out, told := command(t, append(args, more...)...); exit != want || !strings.Contains(out+told, says) || strings.Contains(out+told, store.SecretKey) {
			t.Errorf("%q: %d, want %d and %q\n%s%s", more, exit, want, says, out, told)
		}
	}
	connect(exitOK, "connected: s3://"+bucket+"/raw/….csv tells arn:minio:sqs::COPYFLEET:webhook", "--prefix", "raw/", "--suffix", ".csv")
	connect(exitOK, "was connected", "--prefix", "raw/", "--suffix", ".csv")
	connect(exitOK, `"result":"connected"`, "--prefix", "del/", "--event", "s3:ObjectRemoved:*", "--event", "s3:ObjectCreated:*", "--json")
	connect(exitOK, "removed: the notification of s3://"+bucket+"/raw/….csv to arn:minio:sqs::COPYFLEET:webhook", "--prefix", "raw/", "--suffix", ".csv", "--remove")
	connect(exitOK, "was not there", "--prefix", "raw/", "--suffix", ".csv", "--remove")
	connect(exitOK, "was connected", "--prefix", "del/", "--event", "s3:ObjectCreated:*", "--event", "s3:ObjectRemoved:*")
	connect(exitUsage, "arn:minio:sqs::NOBODY:nats", "--arn", "arn:minio:sqs::NOBODY:nats")
	connect(exitUsage, "--arn", "--arn", "nonsense")
	connect(exitUsage, "s3:Nonsense", "--event", "s3:Nonsense")
	connect(exitUsage, "--bucket No_Bucket", "--bucket", "No_Bucket")
	connect(exitNotFound, "nobodys-bucket", "--bucket", "nobodys-bucket")
	connect(exitDenied, "s3_", "--s3-secret-key", "wrong-secret", "--json")
	connect(exitTemporary, "127.0.0.1:1", "--s3-endpoint", "http://127.0.0.1:1")
}
