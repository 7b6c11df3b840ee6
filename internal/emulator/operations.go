package emulator

import (
	"net/http"

	"github.com/go-json-experiment/json"

	"hsmsweep/internal/emulator/servicebus/server"
)

// OperationsPath is where Admin tells what Service Bus has done so far: a JSON list of OperationCount. Azure has no such thing.
const OperationsPath = "/$emulator/operations"

// An OperationCount is how often something was done.
type OperationCount struct {
	server.Operation
	Count int
}

// withOperations adds OperationsPath.
func (e *Emulator) withOperations(other http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != OperationsPath {
			other.ServeHTTP(w, r)
			return
		}
		counts := []OperationCount{}
		for op, n := range e.ServiceBus.Operations() {
			counts = append(counts, OperationCount{op, n})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, counts) // the client has gone if this fails
	})
}
