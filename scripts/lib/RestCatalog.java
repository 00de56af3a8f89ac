// Apache Iceberg's own REST catalog on 127.0.0.1, S3 behind it; its RESTCatalogServer.main binds every interface.
// java -cp "JARS/*" RestCatalog.java PORT SQLITE_FILE WAREHOUSE S3_ENDPOINT KEY SECRET
import java.util.*;
import org.apache.iceberg.*;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.rest.*;
import org.eclipse.jetty.ee10.servlet.*;
import org.eclipse.jetty.server.*;
public class RestCatalog {
  public static void main(String[] a) throws Exception {
    Map<String, String> p = new HashMap<>();
    p.put("catalog-impl", "org.apache.iceberg.jdbc.JdbcCatalog");
    p.put("uri", "jdbc:sqlite:" + a[1]); p.put("jdbc.schema-version", "V1"); p.put("warehouse", a[2]);
    p.put("io-impl", "org.apache.iceberg.aws.s3.S3FileIO"); p.put("s3.endpoint", a[3]); p.put("s3.path-style-access", "true");
    p.put("s3.access-key-id", a[4]); p.put("s3.secret-access-key", a[5]); p.put("client.region", "us-east-1");
    Catalog c = CatalogUtil.buildIcebergCatalog("fixture", p, null);
    ServletContextHandler h = new ServletContextHandler();
    h.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(c))), "/*");
    Server s = new Server(); ServerConnector k = new ServerConnector(s); k.setHost("127.0.0.1"); k.setPort(Integer.parseInt(a[0]));
    s.addConnector(k); s.setHandler(h); s.start(); System.out.println("ready"); s.join();
  }
}
