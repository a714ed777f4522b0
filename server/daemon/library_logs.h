// What gRPC and Protobuf would write to standard error by themselves goes into the log: a line for
// each, quoted, and no more of them than of any other event. Both write some for what a client sends,
// before it has shown a certificate or a token.
#ifndef CKPT_SERVER_DAEMON_LIBRARY_LOGS_H_
#define CKPT_SERVER_DAEMON_LIBRARY_LOGS_H_

namespace ckpt {

// Of the whole process. After ConfigureLog, before the first thread.
void TakeLibraryLogs();

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_LIBRARY_LOGS_H_
