// Layouts of parts, made in a line.
#ifndef CKPT_TESTS_STAGING_LAYOUTS_H_
#define CKPT_TESTS_STAGING_LAYOUTS_H_

#include <memory>
#include <string>
#include <vector>

#include "common/box.h"
#include "common/layout.h"

namespace ckpt {

class LayoutMaker {
 public:
  LayoutMaker& PerRank(const std::string& key, uint64_t bytes);  // U8
  LayoutMaker& PerRankValue(const std::string& key);
  // A U8 tensor of which this part stores `box`; none of it where the box is empty.
  LayoutMaker& Sharded(const std::string& key, std::vector<uint64_t> shape, Box box,
                       DType dtype = v1::DTYPE_U8);
  LayoutMaker& Replicated(const std::string& key, std::vector<uint64_t> shape, Box box);
  std::shared_ptr<const PartLayout> Make();

 private:
  LayoutMaker& Add(const std::string& key, v1::Placement placement, DType dtype,
                   const std::vector<uint64_t>& shape, const Box& box);
  v1::Layout layout_;
};

// Rows [begin, end) of a matrix.
Box Rows(uint64_t begin, uint64_t end, uint64_t columns);
// One PER_RANK tensor of that size.
std::shared_ptr<const PartLayout> PlainLayout(uint64_t bytes);
// Bytes that a test can recognise.
std::string Pattern(uint64_t bytes, uint32_t seed);

}  // namespace ckpt

#endif  // CKPT_TESTS_STAGING_LAYOUTS_H_
