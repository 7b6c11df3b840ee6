package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"hsmsweep/worker"
)

// serveHealth answers the probes, /healthz while the worker moves and /readyz while it is of use, and serves its metrics.
func serveHealth(addr string, w *worker.Worker, metrics http.Handler, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", probe(w.Live))
	mux.HandleFunc("GET /readyz", probe(w.Ready))
	mux.Handle("GET /metrics", metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the probes are not answered any more", "error", err)
		}
	}()
	log.Info("answering probes", "addr", listener.Addr().String())
	return func() {
		// Probes are short; whoever still asks while the process ends is told by the closed connection.
		_ = server.Close()
		<-ended
	}, nil
}

// probe answers ok, or what is wrong.
func probe(wrong func() error) http.HandlerFunc {
	return func(out http.ResponseWriter, _ *http.Request) {
		if err := wrong(); err != nil {
			http.Error(out, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(out, "ok")
	}
}
