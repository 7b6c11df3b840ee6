// Package bench measures hsmsweep against the least that could do its work. It has nothing but tests and benchmarks:
//
//	go test -run '^$' -bench SideBySide -timeout 1h ./internal/bench
//
// runs everything as processes over loopback sockets, one after the other in one go, and prints a table. The emulator is a process of
// its own, and so is each consumer:
//
//   - the bare loop, the ceiling: the same SDK, as many goroutines, receive, one DELETE by net/http, publish one event, complete,
//     and nothing else; and the same without the DELETE, which is what Service Bus alone allows
//   - hsmsweep run, with deletes that are over at once, and with operations
//   - the loop that holds the lock, as most would write it: armkeyvault's BeginDelete and PollUntilDone, then publish and complete
//
// All requests of a run become due at one instant, when the consumer has done a few already. Rates count from that instant to the last
// settlement, as the emulator counts them; compare rates of one go only, since machines are shared.
//
// BenchmarkParked, BenchmarkScale and BenchmarkStart measure what waiting, many requests and a start cost. BenchmarkWorker has the worker
// in the test's own process, BenchmarkEmulator the emulator, for -cpuprofile and its like. Without -bench, everything is
// run once with a handful of requests, and what does not depend on the machine is checked.
package bench
