// Which names are nearest to one that is not there: for messages that say so.
#ifndef CKPT_COMMON_NEAREST_NAMES_H_
#define CKPT_COMMON_NEAREST_NAMES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ckpt {

// The names nearest to `name` of those that come by, one by one, in any order: by edit distance (of
// bytes), at most a third of its length. What is held is those `count` and one row of a table,
// whatever the number of names that come. One thread.
class NearestSearch {
 public:
  NearestSearch(absl::string_view name, size_t count);

  void Add(absl::string_view candidate);
  const std::string& name() const { return name_; }
  // Nearest first, equally near ones in their order.
  std::vector<std::string> Names() const;

 private:
  struct Found {
    size_t distance = 0;
    std::string name;
  };
  const std::string name_;
  const size_t count_;
  size_t limit_;              // what is further away cannot be among the nearest
  std::vector<Found> found_;  // nearest first
  std::vector<size_t> row_;
};

// Up to `count` of `candidates`.
std::vector<std::string> NearestNames(absl::string_view name,
                                      absl::Span<const std::string> candidates, size_t count);

}  // namespace ckpt

#endif  // CKPT_COMMON_NEAREST_NAMES_H_
