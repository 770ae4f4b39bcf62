package object_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc64"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// TestDigestsAreOfTheContent holds what a store tells against what was written: what is told is right, and nothing is told of an object
// in parts that is only right of its parts.
func TestDigestsAreOfTheContent(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		data := bytes.Repeat([]byte("copyfleet "), 700<<10) // more than a part
		sum, md := sha256.Sum256(data), md5.Sum(data)
		crc := binary.BigEndian.AppendUint64(nil, crc64.Checksum(data, crc64.MakeTable(0x9a6c9329ac4bc9b5)))
		put := func(key string, parts bool, checksum string, of []byte) {
			opts := minio.PutObjectOptions{PartSize: 5 << 20, DisableMultipart: !parts}
			if checksum != "" { // in a header: the embedded S3 refuses it behind the content
				opts.UserMetadata = map[string]string{checksum: base64.StdEncoding.EncodeToString(of)}
			}
			if _, err := e.raw(t).Client.PutObject(t.Context(), bucket, key, bytes.NewReader(data), int64(len(data)), opts); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
		}
		put("plain", false, "", nil)
		put("sha256", false, "X-Amz-Checksum-Sha256", sum[:])
		put("crc64nvme", false, "X-Amz-Checksum-Crc64nvme", crc)
		put("parts", true, "", nil)
		right := map[string]string{
			storage.DigestMD5: hex.EncodeToString(md[:]), storage.DigestSHA256: hex.EncodeToString(sum[:]),
			storage.DigestCRC64NVME: base64.StdEncoding.EncodeToString(crc),
		}
		for key, must := range map[string]string{
			"plain": storage.DigestMD5, "sha256": storage.DigestSHA256, "crc64nvme": storage.DigestCRC64NVME, "parts": "",
		} {
			source, _ := s.Source(bucket, key).(storage.Digested)
			known, err := source.Digests(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			if known.Mark.Size != int64(len(data)) || !known.Mark.Strong() {
				t.Errorf("%s: %+v", key, known.Mark)
			}
			if must != "" && known.Of[must] == "" {
				t.Errorf("%s: no %s among %v", key, must, known.Of)
			}
			for kind, have := range known.Of {
				if want := right[kind]; want != "" && have != want {
					t.Errorf("%s: %s is %s, want %s", key, kind, have, want)
				}
			}
			if strings.HasPrefix(key, "parts") && (known.Of[storage.DigestMD5] != "" || known.Of[storage.DigestSHA256] != "") {
				t.Errorf("%s: %v are of the parts", key, known.Of)
			}
			object, err := s.Source(bucket, key).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			object.Body.Close()
			told := object.Digests[storage.DigestCRC64NVME]
			missed := told == "" && known.Of[storage.DigestCRC64NVME] != "" && e.accessKey != embeddedAccessKey // that one tells a reader nothing
			if told != "" && told != known.Of[storage.DigestCRC64NVME] || missed || object.Digests[storage.DigestMD5] != "" {
				t.Errorf("%s: a reader is told %v, who asks %v", key, object.Digests, known.Of)
			}
			if known.Mark.ETag != object.ETag || known.Mark.Size != object.Size || !known.Mark.Modified.Equal(object.Modified) {
				t.Errorf("%s: the mark is %+v, that of a reader %+v", key, known.Mark, object.Mark())
			}
		}
		missing, _ := s.Source(bucket, "missing").(storage.Digested)
		_, err := missing.Digests(t.Context())
		refused{storage.NotFound, "source_object_not_found"}.check(t, err, bucket, "missing")
		nowhere, _ := s.Source("no-such-bucket-here", "k").(storage.Digested)
		_, err = nowhere.Digests(t.Context())
		refused{storage.NotFound, "bucket_not_found"}.check(t, err, "no-such-bucket-here", "k")
	})
}
