// The same job by hand in Go: HMAC of the body, its SHA-256, a record acknowledged by all replicas, 200.
//
//	receiver-bench LISTEN BROKERS TOPIC SECRET_FILE
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const maxBody = 1 << 20

func main() {
	if len(os.Args) != 5 {
		log.Fatal("receiver-bench LISTEN BROKERS TOPIC SECRET_FILE")
	}
	listen, brokers, topic := os.Args[1], os.Args[2], os.Args[3]
	secret, err := os.ReadFile(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	secret = bytes.TrimSuffix(secret, []byte("\n"))
	// Idempotent is the default. The key decides the partition by murmur2, as everywhere else here; the default compression
	// is snappy, which librdkafka's is not.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordDeliveryTimeout(8*time.Second),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := read(w, r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		claimed, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("AccBooks-Signature"), "sha256="))
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		if err != nil || !hmac.Equal(mac.Sum(nil), claimed) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		// The id where the load generator puts it: found, not parsed.
		id, _, found := bytes.Cut(bytes.TrimPrefix(body, []byte(`{"id":"`)), []byte(`"`))
		if !found {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		hash := sha256.Sum256(body)
		record := &kgo.Record{Key: id, Value: body, Headers: []kgo.RecordHeader{{Key: "sha256", Value: hash[:]}}}
		// ProduceSync would not linger.
		acknowledged := make(chan error, 1)
		client.Produce(r.Context(), record, func(_ *kgo.Record, err error) { acknowledged <- err })
		if err := <-acknowledged; err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(listen, nil))
}

// read reads the whole body into a buffer of its declared length.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > maxBody {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}
