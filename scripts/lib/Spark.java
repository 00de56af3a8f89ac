// Spark SQL in this process, one statement a line, on tables of a SQL catalog in SQLite; prints each statement's rows as JSON.
// java -cp "JARS/*" Spark.java SQLITE_FILE WAREHOUSE < STATEMENTS
import java.io.*;
import org.apache.spark.sql.*;
public class Spark {
  public static void main(String[] a) throws Exception {
    String c = "spark.sql.catalog.ledgerhook";
    SparkSession s = SparkSession.builder().master("local[1]").appName("lake")
      .config("spark.ui.enabled", false).config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
      .config("spark.sql.shuffle.partitions", 1).config("spark.sql.session.timeZone", "UTC")
      .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
      .config(c, "org.apache.iceberg.spark.SparkCatalog").config(c + ".catalog-impl", "org.apache.iceberg.jdbc.JdbcCatalog")
      .config(c + ".uri", "jdbc:sqlite:" + a[0]).config(c + ".jdbc.schema-version", "V1").config(c + ".warehouse", a[1])
      .getOrCreate();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String q; (q = in.readLine()) != null; ) for (String row : s.sql(q).toJSON().collectAsList()) System.out.println(row);
    s.stop();
  }
}
