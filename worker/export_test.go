package worker

// Golden is for the tests of the whole worker.
var Golden = golden
