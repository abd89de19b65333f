### not-a-number: a price that is none
#=> made the price of point 0 of `cpu` NaN, which is no number
price["price"] = float("nan")

### infinite: a price without end
#=> made the price of point 0 of `cpu` -Infinity, which is no number
price["price"] = decimal.Decimal("-Infinity")

### too-large: a price of forty-one digits
#=> made the price of point 0 of `cpu` too large
price["price"] = 10 ** 40

### endless-digits: a price whose text alone would take a gigabyte
#=> made the price of point 0 of `cpu` too large
price["price"] = decimal.Decimal("1e999999999")

### too-small: a price of a hundred zeros
#=> priced 0
price["price"] = decimal.Decimal("1e-100")

### too-exact: a price with more digits than there are
#=> which has too many digits
price["price"] = 8 * 10 ** 28

### negative: a price below zero, which is a discount
#=> priced -1
price["price"] = -1

### minus-zero: a nothing with a sign
#=> priced 0
price["price"] = decimal.Decimal("-0.00")

### float: a price in binary
#=> priced 0.1
price["price"] = 0.1

### truth: a truth for a price
#=> made the price of point 0 of `cpu` True, which is no number
price["price"] = True

### words: a word for a price
#=> made the price of point 0 of `cpu` 'seven', which is no number
price["price"] = "seven"

### lying-number: a number that says another one each time
#=> made the price of point 0 of `cpu` seven, which is no number
class Lying(float):
    def __repr__(self):
        return "seven"
price["price"] = Lying(1)

### failing-number: a thing whose name is a failure
#=> ZeroDivisionError
class Failing:
    def __repr__(self):
        return str(1 / 0)
price["price"] = Failing()

### add-a-point: adds a point
#=> left 2 points of `cpu` where there were 1
data["usage"]["cpu"].append(dict(data["usage"]["cpu"][0]))

### drop-a-point: drops a point
#=> left 0 points of `cpu` where there were 1
data["usage"]["cpu"].clear()

### more-used: raises the quantity
#=> changed `vol` of point 0 of `cpu`
data["usage"]["cpu"][0]["vol"]["qty"] += 1

### somebody-elses: gives the point to somebody else
#=> changed `groupby` of point 0 of `cpu`
data["usage"]["cpu"][0]["groupby"]["project_id"] = "good"

### lying-point: changes a point to one that says it is unchanged; its price alone is taken
#=> priced 1
class Same(dict):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
data["usage"]["cpu"][0]["vol"] = Same(qty=9)
