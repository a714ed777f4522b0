#include <iostream>

#include "client/client.h"

int main() {
  // Nobody listens there: what comes back is a clear error, from the real library.
  const auto client = ckpt::Client::Connect(
      {.socket = "/nowhere/ckptd.sock", .connect_timeout = absl::Milliseconds(100)});
  std::cout << client.status() << "\n";
  return client.status().code() == absl::StatusCode::kUnavailable ? 0 : 1;
}
